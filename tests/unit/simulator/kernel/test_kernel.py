"""What every kernel does, at times that can be worked out by hand."""

from collections.abc import Callable

import pytest

from forebay.core.instance import EngineFlags, EngineProfile, PrefillChunk
from forebay.simulator.kernel import make_kernel
from forebay.simulator.kernel.backend import Plain
from forebay.simulator.kernel.base import Kernel
from forebay.simulator.kernel.columns import NEVER_PS
from forebay.simulator.kernel.divided import DividedKernel
from forebay.simulator.kernel.fast import FastKernel
from forebay.simulator.kernel.reference import ReferenceKernel
from tests.unit.simulator.kernel.kit import END_PS, compiled, profile

Make = Callable[[int], Kernel]

KERNELS: dict[str, Make] = {
    "divided": lambda row_count: DividedKernel(row_count, Plain()),
    "reference": ReferenceKernel,
    "plain": lambda row_count: FastKernel(row_count, Plain()),
    "compiled": lambda row_count: FastKernel(row_count, compiled()),
}


@pytest.fixture(params=KERNELS)
def make(request: pytest.FixtureRequest) -> Make:
    return KERNELS[request.param]


def alone_ps(engine: EngineProfile, prompt_tokens: int, output_tokens: int) -> tuple[int, int]:
    """When a request that comes alone at 0 has its first and its last token."""
    now_ps, cached = 0, 0
    while cached < prompt_tokens:
        chunk = min(prompt_tokens - cached, engine.max_batch_tokens)
        now_ps += engine.duration_ps(0, 0, [PrefillChunk(chunk, cached)])
        cached += chunk
    n, step = output_tokens - 1, engine.iteration_ps[1] + engine.decode_ps
    return now_ps, now_ps + n * step + engine.context_token_ps * (n * prompt_tokens + n * (n - 1) // 2)


@pytest.mark.parametrize("prompt_tokens", [1, 31, 32, 33, 100])
@pytest.mark.parametrize("output_tokens", [1, 2, 50])
def test_one_request_alone_takes_the_closed_form(make: Make, prompt_tokens: int, output_tokens: int) -> None:
    kernel, engine = make(1), profile()
    kernel.add(engine, EngineFlags())
    assert kernel.arrive(0, 0, prompt_tokens, output_tokens, 0, 0, 0)
    assert list(kernel.advance(END_PS)) == [0]
    assert (kernel.first_ps(0), kernel.finish_ps(0)) == alone_ps(engine, prompt_tokens, output_tokens)
    assert kernel.now_ps == kernel.finish_ps(0)
    assert not kernel.advance(END_PS)
    assert kernel.now_ps == END_PS


def test_unlimited_memory_evicts_nobody_and_all_of_it_comes_back(make: Make) -> None:
    kernel = make(60)
    kernel.add(profile(kv_tokens=100_000, max_seqs=16), EngineFlags())
    for row in range(60):
        while kernel.advance(10 * row):
            pass
        kernel.arrive(0, row, 1 + row % 30, 1 + row % 17, 0, 0, 10 * row)
    while kernel.advance(END_PS):
        pass
    view = kernel.view(0)
    assert [kernel.preemption_count(row) for row in range(60)] == [0] * 60
    assert (view.arrived_count, view.finished_count, view.running_count, view.waiting_count) == (60, 60, 0, 0)
    assert view.free_block_count == view.block_count
    assert view.generated_tokens == sum(kernel.generated_tokens(row) for row in range(60))
    assert [kernel.generated_tokens(row) for row in range(60)] == [1 + row % 17 for row in range(60)]


def test_time_may_pass_for_ever_where_nothing_happens(make: Make) -> None:
    kernel = make(1)
    kernel.add(profile(), EngineFlags())
    kernel.arrive(0, 0, 4, 4, 0, 0, 0)
    assert list(kernel.advance(NEVER_PS)) == [0]
    assert not kernel.advance(NEVER_PS)
    assert kernel.now_ps == NEVER_PS


def test_tokens_are_counted_inside_a_stretch(make: Make) -> None:
    kernel, engine = make(1), profile()
    kernel.add(engine, EngineFlags())
    kernel.arrive(0, 0, 8, 20, 0, 0, 0)
    for tokens in range(1, 20):
        at_ps = alone_ps(engine, 8, tokens)[1]
        assert not kernel.advance(at_ps - 1)
        assert kernel.generated_tokens(0) == tokens - 1
        assert not kernel.advance(at_ps)
        assert kernel.generated_tokens(0) == tokens
        assert kernel.view(0).context_tokens == 8 + tokens - 1
        assert kernel.view(0).next_ps == alone_ps(engine, 8, tokens + 1)[1]


def test_finishes_of_one_instant_come_together_by_instance_then_admission(make: Make) -> None:
    kernel = make(6)
    for _ in range(3):
        kernel.add(profile(), EngineFlags())
    for row, instance in enumerate((2, 0, 1, 2, 0, 1)):
        kernel.arrive(instance, row, 4, 3 if row < 3 else 2, 0, 0, 0)
    # The second of each instance misses the first iteration, so both have their last token at the same boundary.
    assert list(kernel.advance(END_PS)) == [1, 4, 2, 5, 0, 3]


def test_a_cancelled_row_keeps_its_memory_until_the_boundary_and_may_come_again(make: Make) -> None:
    kernel, engine = make(1), profile(kv_tokens=64)
    kernel.add(engine, EngineFlags())
    kernel.arrive(0, 0, 16, 9, 0, 0, 0)
    end_ps = engine.duration_ps(0, 0, [PrefillChunk(16, 0)])
    assert kernel.cancel(0, 1)
    assert not kernel.cancel(0, 1)
    assert kernel.view(0).free_block_count == 12
    assert kernel.arrive(0, 0, 16, 9, 0, 0, 2)
    kernel.advance(end_ps)
    assert kernel.view(0).running_count == 1
    assert list(kernel.advance(END_PS)) == [0]
    assert kernel.first_ps(0) == 2 * end_ps
    assert kernel.view(0).cancelled_count == 1


def test_what_can_never_fit_is_refused_with_a_reason(make: Make) -> None:
    kernel = make(1)
    kernel.add(profile(kv_tokens=64), EngineFlags())
    assert kernel.refusal(0, 60, 4, 0) is None
    assert "exceed the KV cache's 64" in str(kernel.refusal(0, 60, 5, 0))
    assert not kernel.arrive(0, 0, 60, 5, 0, 0, 0)
    assert kernel.view(0).arrived_count == 0


def test_a_crash_tells_who_was_lost_and_ends_the_instance(make: Make) -> None:
    kernel = make(5)
    for _ in range(2):
        kernel.add(profile(max_seqs=2), EngineFlags())
    for row in range(5):
        kernel.arrive(0, row, 4, 9, 0, 0, 0)
    kernel.cancel(3, 0)
    assert list(kernel.crash(0, 1)) == [0, 1, 2, 4]
    with pytest.raises(ValueError, match="instance 0 has crashed"):
        kernel.arrive(0, 0, 4, 9, 0, 0, 1)
    with pytest.raises(ValueError, match="instance 0 has crashed"):
        kernel.view(0)
    assert kernel.arrive(1, 0, 4, 9, 0, 0, 1)
    assert list(kernel.advance(END_PS)) == [0]


def test_a_fleet_that_comes_and_goes_takes_the_room_of_those_that_are_there(make: Make) -> None:
    alone, kernel = make(2), make(60)
    alone.add(profile(max_seqs=16), EngineFlags())
    for number in range(30):
        instance = kernel.add(profile(max_seqs=16), EngineFlags())
        now_ps = kernel.now_ps
        for each, row, at_ps, place in ((alone, 0, 0, 0), (kernel, number, now_ps, instance)):
            if number == 0 or each is kernel:
                assert each.arrive(place, row, 40, 9, 0, 0, at_ps)
                assert list(each.advance(END_PS)) == [row]
        assert kernel.finish_ps(number) - now_ps == alone.finish_ps(0), "nothing is left of the one before"
        assert kernel.arrive(instance, 30 + number, 20, 500, 0, 0, kernel.now_ps)
        kernel.advance(kernel.now_ps + alone.finish_ps(0))
        assert list(kernel.crash(instance, kernel.now_ps)) == [30 + number]
    if isinstance(kernel, FastKernel):
        assert len(kernel._cells.room) < 3 * (16 + 2 * 17 + 4 * 16)


def test_a_hung_instance_stands_still_and_makes_up_for_nothing(make: Make) -> None:
    kernel, engine = make(1), profile()
    kernel.add(engine, EngineFlags())
    kernel.arrive(0, 0, 8, 20, 0, 0, 0)
    first_ps, last_ps = alone_ps(engine, 8, 20)
    kernel.advance(first_ps + 1)
    kernel.hang(0, first_ps + 1)
    assert not kernel.advance(10**9)
    assert kernel.generated_tokens(0) == 1
    assert kernel.view(0).next_ps is None
    kernel.resume(0, 10**9)
    kernel.advance(END_PS)
    assert kernel.finish_ps(0) == last_ps + 10**9 - first_ps - 1


@pytest.mark.parametrize(
    "call",
    [
        lambda kernel: kernel.arrive(0, 1, 4, 4, 0, 0, 5),
        lambda kernel: kernel.cancel(0, 5),
        lambda kernel: kernel.advance(5),
        lambda kernel: kernel.hang(0, 5),
        lambda kernel: kernel.crash(0, 5),
        lambda kernel: kernel.retime(0, profile(), 5),
    ],
)
def test_time_does_not_run_backwards(make: Make, call: Callable[[Kernel], object]) -> None:
    kernel = make(2)
    kernel.add(profile(), EngineFlags())
    kernel.arrive(0, 0, 4, 4, 0, 0, 6)
    with pytest.raises(ValueError, match="time runs backwards: 5 ps after 6 ps"):
        call(kernel)


def test_a_row_is_on_one_instance_at_a_time(make: Make) -> None:
    kernel = make(1)
    kernel.add(profile(), EngineFlags())
    kernel.arrive(0, 0, 4, 4, 0, 0, 6)
    with pytest.raises(ValueError, match="row 0 is on"):
        kernel.arrive(0, 0, 4, 4, 0, 0, 6)


def test_a_due_boundary_may_not_be_skipped(make: Make) -> None:
    kernel = make(2)
    kernel.add(profile(), EngineFlags())
    kernel.arrive(0, 0, 4, 4, 0, 0, 0)
    with pytest.raises(ValueError, match="advance to 500 ps first"):
        kernel.arrive(0, 1, 4, 4, 0, 0, 500)


def test_another_memory_cannot_be_taken_over(make: Make) -> None:
    kernel = make(1)
    kernel.add(profile(), EngineFlags())
    with pytest.raises(ValueError, match="other memory or limits"):
        kernel.retime(0, profile(kv_tokens=64), 0)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown kernel 'quick'; known: fast, reference"):
        make_kernel(1, "quick")
