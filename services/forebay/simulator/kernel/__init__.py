"""The instances: a plain reference and a fast implementation behind one port."""

from collections.abc import Callable

from forebay.simulator.kernel.base import Kernel
from forebay.simulator.kernel.divided import DividedKernel
from forebay.simulator.kernel.reference import ReferenceKernel

KERNELS: dict[str, Callable[[int], Kernel]] = {
    "fast": DividedKernel,
    "reference": ReferenceKernel,
}


def make_kernel(row_count: int, name: str = "fast") -> Kernel:
    """A kernel without instances for requests numbered below `row_count`; raises ValueError for unknown names."""
    if name not in KERNELS:
        raise ValueError(f"unknown kernel {name!r}; known: {', '.join(sorted(KERNELS))}")
    return KERNELS[name](row_count)
