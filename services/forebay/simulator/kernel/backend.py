"""How the kernel's functions run: as they are over lists, or compiled over arrays."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import FunctionType, ModuleType
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from forebay.core.instance import profile
from forebay.simulator.kernel import calls, columns, gaps, step, stretch, structures, sweep
from forebay.simulator.kernel.columns import Ints

Numbers: TypeAlias = npt.NDArray[np.int64]

SOURCES: tuple[ModuleType, ...] = (structures, stretch, gaps, step, calls, sweep)


class Functions:
    """The functions of `calls` and `sweep` by name, all of one kind."""

    def __init__(self, functions: dict[str, Callable[..., Any]]) -> None:
        self.__dict__.update(functions)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"the kernel has no function {name!r}")


class Backend(Protocol):
    """A kind of column and the functions that fit it."""

    @property
    def functions(self) -> Functions:
        """The kernel's functions."""
        ...

    def column(self, size: int, value: int = 0) -> Ints:
        """A column of equal numbers."""
        ...

    def extend(self, column: Ints, count: int, value: int = 0) -> Ints:
        """The column with more numbers at its end; the old one must not be used any more."""
        ...

    def taken(self, numbers: Numbers) -> Ints:
        """A column of given numbers."""
        ...

    def fields(self, column: Ints, count: int, width: int, fields: Sequence[int]) -> Callable[[], tuple[Numbers, ...]]:
        """Reads one number of each of the first `count` records, for each of the fields; what it gives must not be
        changed."""
        ...

    def window(self, column: Ints) -> Ints:
        """The same numbers, quicker to read one by one; they are Python's own integers."""
        ...


class Plain:
    """Lists and plain Python: installs anywhere."""

    functions = Functions({name: one for module in SOURCES for name, one in vars(module).items()})

    def column(self, size: int, value: int = 0) -> Ints:
        """A list of equal numbers."""
        return [value] * size

    def extend(self, column: Ints, count: int, value: int = 0) -> Ints:
        """The same list, longer."""
        column.extend([value] * count)
        return column

    def taken(self, numbers: Numbers) -> Ints:
        """A list of given numbers."""
        return cast(list[int], numbers.tolist())

    def fields(self, column: Ints, count: int, width: int, fields: Sequence[int]) -> Callable[[], tuple[Numbers, ...]]:
        """Copies them anew each time."""
        end = count * width
        return lambda: tuple(np.array(column[field:end:width], dtype=np.int64) for field in fields)

    def window(self, column: Ints) -> Ints:
        """The list itself."""
        return column


class Compiled:
    """Arrays of int64 and numba; raises ImportError where numba is not installed."""

    def __init__(self) -> None:
        self.functions = _compiled()

    def column(self, size: int, value: int = 0) -> Ints:
        """An array of equal numbers; zeros take memory when they are first written."""
        array = np.zeros(size, dtype=np.int64) if value == 0 else np.full(size, value, dtype=np.int64)
        return cast(Ints, array)

    def extend(self, column: Ints, count: int, value: int = 0) -> Ints:
        """A longer array."""
        longer = self.column(len(column) + count, value)
        cast(Any, longer)[: len(column)] = column
        return longer

    def taken(self, numbers: Numbers) -> Ints:
        """The array itself."""
        return cast(Ints, numbers)

    def fields(self, column: Ints, count: int, width: int, fields: Sequence[int]) -> Callable[[], tuple[Numbers, ...]]:
        """Shows the column itself, so that they move on with it."""
        records: Numbers = cast(Any, column)[: count * width].reshape(-1, width)
        shown = tuple(records[:, field] for field in fields)
        for one in shown:
            one.flags.writeable = False
        return lambda: shown

    def window(self, column: Ints) -> Ints:
        """A memory view: half the time of an array's item."""
        return cast(Ints, memoryview(cast(Any, column)))


@cache
def _compiled() -> Functions:
    """The functions of all sources, compiled when first called and kept on disk.

    They are copied so that each calls compiled ones while the originals stay plain. Their names carry a sum over all
    that they are made of: numba's own check sees only the file of the outermost function.
    """
    from numba import njit

    names = {module.__name__ for module in SOURCES}
    scope = {name: one for module in SOURCES for name, one in vars(module).items()}
    sources = {name: one for name, one in scope.items() if isinstance(one, FunctionType) and one.__module__ in names}
    stamp = _stamp(sources)
    for name, one in sources.items():
        twin = FunctionType(one.__code__, scope, name, one.__defaults__)
        twin.__module__ = one.__module__
        twin.__qualname__ = f"{name}_{stamp}"
        scope[name] = njit(cache=True)(twin)
    return Functions(scope)


def _stamp(functions: Mapping[str, FunctionType]) -> str:
    """A sum over the functions' code and all constants that they use."""
    codes = [
        (name, one.__code__.co_code, one.__code__.co_consts, one.__code__.co_names) for name, one in functions.items()
    ]
    modules = (columns, profile, *SOURCES)
    constants = [(name, one) for module in modules for name, one in vars(module).items() if isinstance(one, int)]
    return f"{zlib.crc32(repr((codes, constants)).encode()):08x}"


def best() -> Backend:
    """Compiled where numba is installed and not switched off (NUMBA_DISABLE_JIT)."""
    try:
        import numba
    except ImportError:
        return Plain()
    return Plain() if getattr(numba.config, "DISABLE_JIT", 0) else Compiled()
