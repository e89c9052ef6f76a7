"""The longest time between two tokens of an answer, whatever comes in between."""

from itertools import pairwise

import pytest

from forebay.core.instance import EngineFlags, EngineRequest, InstanceModel
from forebay.simulator.kernel import make_kernel
from forebay.simulator.kernel.base import Kernel
from tests.unit.simulator.kernel.kit import profile

KERNELS = ("reference", "fast")


def alone(name: str, rows: int = 4, kv_tokens: int = 400) -> Kernel:
    kernel = make_kernel(rows, name)
    kernel.add(profile(kv_tokens, 4, 64, 8, 1), EngineFlags())
    return kernel


def drain(kernel: Kernel, until_ps: int = 10**9) -> None:
    while kernel.advance(until_ps):
        pass


@pytest.mark.parametrize("name", KERNELS)
def test_a_lone_answer_waits_longest_for_its_last_token(name: str) -> None:
    kernel = alone(name)
    assert kernel.arrive(0, 0, 20, 30, 0, 0, 0)
    assert kernel.gap_ps(0) == -1
    drain(kernel)
    engine = profile(400, 4, 64, 8, 1)
    assert kernel.gap_ps(0) == engine.duration_ps(1, 20 + 28)


@pytest.mark.parametrize("name", KERNELS)
def test_one_token_has_no_gap(name: str) -> None:
    kernel = alone(name)
    kernel.arrive(0, 0, 20, 1, 0, 0, 0)
    drain(kernel)
    assert kernel.gap_ps(0) == 0


@pytest.mark.parametrize("name", KERNELS)
def test_a_prompt_of_another_holds_up_who_decodes_then_and_nobody_later(name: str) -> None:
    kernel = alone(name)
    kernel.arrive(0, 0, 20, 40, 0, 0, 0)
    while not kernel.generated_tokens(0):
        kernel.advance(kernel.now_ps + 1)
    kernel.arrive(0, 1, 60, 5, 0, 0, kernel.now_ps)
    drain(kernel)
    assert kernel.gap_ps(0) > kernel.gap_ps(1) > 0


@pytest.mark.parametrize("name", KERNELS)
def test_a_hang_is_a_gap(name: str) -> None:
    kernel = alone(name)
    kernel.arrive(0, 0, 20, 10, 0, 0, 0)
    while kernel.generated_tokens(0) < 3:
        kernel.advance(kernel.now_ps + 1)
    kernel.hang(0, kernel.now_ps)
    drain(kernel, kernel.now_ps + 5_000)
    kernel.resume(0, kernel.now_ps)
    drain(kernel)
    assert 5_000 < kernel.gap_ps(0) < 5_100


@pytest.mark.parametrize("name", KERNELS)
def test_an_eviction_is_a_gap_from_the_last_token_to_the_next(name: str) -> None:
    kernel = alone(name, 2, 80)
    for row in (0, 1):
        kernel.arrive(0, row, 24, 40, 0, 0, kernel.now_ps)
    evicted_ps = 0
    while not kernel.preemption_count(1):
        kernel.advance(kernel.now_ps + 1)
        evicted_ps = kernel.now_ps
    tokens = kernel.generated_tokens(1)
    while kernel.generated_tokens(1) == tokens:
        kernel.advance(kernel.now_ps + 1)
    back_ps = kernel.now_ps
    drain(kernel)
    assert kernel.gap_ps(1) == back_ps - evicted_ps
    assert kernel.gap_ps(0) < kernel.gap_ps(1)


def test_it_is_the_longest_time_between_the_tokens_that_an_engine_tells_of() -> None:
    kernel, engine = alone("fast"), InstanceModel(profile(400, 4, 64, 8, 1), EngineFlags())
    requests = [(0, 20, 30), (1, 50, 20), (2, 90, 5), (3, 30, 12)]
    for row, prompt, output in requests:
        kernel.arrive(0, row, prompt, output, 0, 0, 0)
        engine.arrive(EngineRequest(str(row), prompt, output), 0)
    drain(kernel)
    told: dict[str, list[int]] = {}
    for event in engine.advance(10**9):
        told.setdefault(event.request_id, []).append(event.at_ps)
    for row, _, _ in requests:
        times = told[str(row)]
        assert kernel.gap_ps(row) == max(after - before for before, after in pairwise(times))
