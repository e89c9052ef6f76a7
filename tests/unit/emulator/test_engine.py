"""The instance model on a wall clock: absolute deadlines, late wake-ups, coalescing, time scale, faults."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.instance import EngineFlags, EngineProfile, EngineRequest, InstanceModel
from forebay.core.units import PS_PER_US
from forebay.core.values import WakeAt
from forebay.emulator.engine import Action, EmulatedEngine, Refused, Tokens

START_US = 1_700_000_000_000_000
STEP_US = 1_000
PROFILE = EngineProfile(
    name="one millisecond an iteration",
    status="uncalibrated",
    iteration_ps=(0, *(STEP_US * PS_PER_US for _ in range(64))),
    decode_ps=0,
    context_token_ps=0,
    prefill_ps=0,
    half_pair_fixed=0,
    prefill_token_fixed=0,
    kv_tokens=256,
    max_seqs=8,
)


def engine(time_scale: float = 1.0, coalesce_us: int = 0) -> EmulatedEngine:
    return EmulatedEngine(InstanceModel(PROFILE), time_scale, coalesce_us, START_US)


def wake_us(actions: list[Action]) -> int | None:
    return next((action.at_us - START_US for action in actions if isinstance(action, WakeAt)), None)


def tokens(actions: list[Action]) -> list[Tokens]:
    return [action for action in actions if isinstance(action, Tokens)]


def run(emulated: EmulatedEngine, actions: list[Action], late_us: int = 0) -> list[tuple[int, Tokens]]:
    """Wake as asked, or later; what came out and when."""
    told = []
    while (at_us := wake_us(actions)) is not None:
        actions = emulated.on_wake(START_US + at_us + late_us)
        told += [(at_us, action) for action in tokens(actions)]
    return told


def test_each_token_comes_at_its_own_deadline() -> None:
    emulated = engine()
    told = run(emulated, emulated.on_request(EngineRequest("a", 10, 3), START_US))
    assert told == [
        (1_000, Tokens("a", 1, 1, False)),
        (2_000, Tokens("a", 1, 2, False)),
        (3_000, Tokens("a", 1, 3, True)),
    ]


def test_an_idle_engine_asks_for_no_wake_up() -> None:
    emulated = engine()
    assert emulated.on_wake(START_US + 5) == []
    run(emulated, emulated.on_request(EngineRequest("a", 10, 2), START_US + 10))
    assert emulated.on_wake(START_US + 1_000_000) == []


def test_a_late_wake_up_tells_all_that_is_due_and_delays_nothing_later() -> None:
    emulated = engine()
    emulated.on_request(EngineRequest("a", 10, 6), START_US)
    actions = emulated.on_wake(START_US + 3_700)
    assert tokens(actions) == [Tokens("a", 3, 3, False)]
    assert wake_us(actions) == 4_000


def test_tokens_within_the_coalescing_time_travel_together() -> None:
    emulated = engine(coalesce_us=2_500)
    told = run(emulated, emulated.on_request(EngineRequest("a", 10, 6), START_US))
    assert [(at_us, action.count) for at_us, action in told] == [(1_000, 1), (3_500, 2), (6_000, 3)]


def test_the_first_token_after_a_pause_is_not_held_back() -> None:
    emulated = engine(coalesce_us=5_000)
    run(emulated, emulated.on_request(EngineRequest("a", 10, 1), START_US))
    actions = emulated.on_request(EngineRequest("b", 10, 1), START_US + 50_000)
    assert wake_us(actions) == 51_000


@given(
    st.floats(0.1, 50),
    st.integers(0, 20_000),
    st.integers(0, 5_000),
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
)
def test_neither_coalescing_nor_lateness_changes_what_is_told(
    time_scale: float, coalesce_us: int, late_us: int, outputs: list[int]
) -> None:
    emulated = engine(time_scale, coalesce_us)
    actions: list[Action] = []
    for number, output in enumerate(outputs):
        actions = emulated.on_request(EngineRequest(f"r{number}", 5, output), START_US)
    told = run(emulated, actions, late_us)
    totals = {f"r{n}": sum(a.count for _, a in told if a.request_id == f"r{n}") for n in range(len(outputs))}
    assert totals == {f"r{number}": output for number, output in enumerate(outputs)}
    assert sum(action.finished for _, action in told) == len(outputs)


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 60), st.integers(1, 30)), min_size=1, max_size=8),
    st.integers(0, 20_000),
    st.integers(0, 9_000),
)
def test_a_recorded_arrival_list_gives_the_instance_models_own_run(
    arrivals: list[tuple[int, int, int]], coalesce_us: int, late_us: int
) -> None:
    reference, emulated = InstanceModel(PROFILE), engine(1.0, coalesce_us)
    expected: list[str] = []
    told: list[str] = []
    now_us = 0
    for number, (gap_us, prompt, output) in enumerate(arrivals):
        now_us += gap_us
        request = EngineRequest(f"r{number}", prompt, output)
        expected += [event.request_id for event in reference.advance(now_us * PS_PER_US) if event.finished]
        reference.arrive(request, now_us * PS_PER_US)
        told += [one.request_id for one in tokens(emulated.on_request(request, START_US + now_us)) if one.finished]
    end_us = now_us + 1_000_000 + late_us
    expected += [event.request_id for event in reference.advance(end_us * PS_PER_US) if event.finished]
    told += [one.request_id for one in tokens(emulated.on_wake(START_US + end_us)) if one.finished]
    assert sorted(told) == sorted(expected)
    assert emulated.view() == reference.view()


def test_a_time_scale_of_ten_is_ten_times_as_fast() -> None:
    emulated = engine(time_scale=10)
    told = run(emulated, emulated.on_request(EngineRequest("a", 10, 3), START_US))
    assert [at_us for at_us, _ in told] == [100, 200, 300]


def test_a_deadline_between_two_microseconds_is_the_later_one() -> None:
    profile = replace(PROFILE, iteration_ps=(0, *(1_500_001 for _ in range(64))))
    emulated = EmulatedEngine(InstanceModel(profile), 1.0, 0, START_US)
    actions = emulated.on_request(EngineRequest("a", 10, 1), START_US)
    assert wake_us(actions) == 2
    assert tokens(emulated.on_wake(START_US + 1)) == []
    assert len(tokens(emulated.on_wake(START_US + 2))) == 1


def test_an_arrival_first_passes_the_boundaries_that_are_due() -> None:
    emulated = engine()
    emulated.on_request(EngineRequest("a", 10, 9), START_US)
    actions = emulated.on_request(EngineRequest("b", 10, 1), START_US + 2_100)
    assert tokens(actions) == [Tokens("a", 2, 2, False)]
    assert wake_us(actions) == 3_000


def test_a_clock_that_steps_back_stands_still() -> None:
    emulated = engine()
    emulated.on_request(EngineRequest("a", 10, 2), START_US + 500)
    actions = emulated.on_request(EngineRequest("b", 10, 2), START_US - 60_000_000)
    assert wake_us(actions) == 1_500


def test_a_cancelled_request_tells_nothing_more_and_frees_its_memory() -> None:
    emulated = engine()
    emulated.on_request(EngineRequest("a", 10, 50), START_US)
    emulated.on_cancel("a", START_US + 100)
    assert tokens(emulated.on_wake(START_US + 60_000)) == []
    assert emulated.view().free_block_count == emulated.view().block_count


def test_a_request_that_can_never_run_is_refused_with_its_reason() -> None:
    emulated = EmulatedEngine(InstanceModel(PROFILE, EngineFlags(model_tokens_max=50)), 1.0, 0, START_US)
    assert emulated.on_request(EngineRequest("a", 50, 1), START_US) == [Refused("a", "51 tokens exceed the model's 50")]


def test_a_slow_engine_takes_longer_from_the_next_iteration_on_and_recovers() -> None:
    emulated = engine()
    emulated.on_request(EngineRequest("a", 10, 20), START_US)
    emulated.on_slow(3, START_US + 100)
    assert wake_us(emulated.on_wake(START_US + 1_000)) == 4_000
    emulated.on_slow(1, START_US + 1_100)
    assert wake_us(emulated.on_wake(START_US + 4_000)) == 5_000


def test_a_hung_engine_asks_for_no_wake_up_until_it_goes_on() -> None:
    emulated = engine()
    emulated.on_request(EngineRequest("a", 10, 20), START_US)
    assert wake_us(emulated.on_hang(True, START_US + 400)) is None
    assert emulated.on_wake(START_US + 10_000) == []
    assert wake_us(emulated.on_hang(False, START_US + 10_400)) == 11_000


@pytest.mark.parametrize(("time_scale", "expected_us"), [(1, 2_000), (4, 500)])
def test_emulated_durations_shrink_by_the_scale(time_scale: float, expected_us: int) -> None:
    assert engine(time_scale).wall_us(2_000 * PS_PER_US) == expected_us
