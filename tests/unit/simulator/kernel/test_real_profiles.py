"""The kernels agree on engines and lengths as they are, where times have thirteen digits."""

from itertools import product

import numpy as np
import pytest

from forebay.core.instance import EngineFlags, compute_profile
from forebay.simulator.kernel.fast import FastKernel
from forebay.simulator.kernel.reference import ReferenceKernel
from tests.unit.simulator.kernel.kit import BACKENDS

SIZES = list(product((8_192, 60_000, 400_000), ((16, 128), (64, 512), (256, 2_048)), (1, 4)))


def outcome(
    kernel: FastKernel | ReferenceKernel, row_count: int, size: tuple[int, tuple[int, int], int]
) -> list[list[int]]:
    """First and last token, evictions and iterations of an open loop; requests in turn, every third with a hit."""
    kv_tokens, (seats, budget), instances = size
    engine = compute_profile("A100-80G", "Llama-3-8B", kv_tokens=kv_tokens, max_seqs=seats, max_batch_tokens=budget)
    draws = np.random.default_rng(seats)
    arrivals_ps = np.cumsum(draws.exponential(1e12 / (6 * instances), row_count)).astype(np.int64).tolist()
    prompts = draws.lognormal(6.7, 0.9, row_count).clip(1, 4_000).astype(np.int64)
    outputs = draws.lognormal(5.0, 0.9, row_count).clip(1, 1_000).astype(np.int64)
    for number in range(instances):
        kernel.add(engine, EngineFlags(reserve_full_prompt=number % 2 == 0))
    kernel.load(prompts, outputs, np.where(np.arange(row_count) % 3 == 0, prompts // 2, 0))
    for row, now_ps in enumerate(arrivals_ps):
        kernel.place(row % instances, row, now_ps, arrivals_ps[min(row + 1, row_count - 1)])
    kernel.drain()
    views = [kernel.view(number) for number in range(instances)]
    return [*(column.tolist() for column in kernel.times()), [view.iteration_count for view in views]]


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_tight_engine_takes_the_same_picoseconds(kind: str) -> None:
    size = (8_192, (64, 512), 1)
    expected = outcome(ReferenceKernel(150), 150, size)
    assert outcome(FastKernel(150, BACKENDS[kind]()), 150, size) == expected
    assert sum(expected[2]) > 10


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", BACKENDS)
def test_every_size_takes_the_same_picoseconds(kind: str, size: tuple[int, tuple[int, int], int]) -> None:
    expected = outcome(ReferenceKernel(1_500), 1_500, size)
    assert outcome(FastKernel(1_500, BACKENDS[kind]()), 1_500, size) == expected
