"""The clocks of GPUs are turned in the middle of a run."""

import pytest

from forebay.core.instance import EngineRequest, InstanceModel
from forebay.simulator.config import Group, Knob
from forebay.simulator.profiles import profile_of
from forebay.simulator.results import KnobTurn, RunResult
from forebay.simulator.usage import fleet_usage
from tests.unit.simulator.shell.worlds import PROFILE, S, group, run, workload, world


def turned(*knobs: Knob, count: int = 1, output_tokens: int = 400) -> RunResult:
    return run(workload([0] * count, 40, output_tokens), world(group(count), knobs=knobs))


def test_half_the_clock_takes_twice_the_time() -> None:
    profile = profile_of(PROFILE, max_seqs=8, max_batch_tokens=64, kv_tokens=2_048).slowed(2.0)
    alone = InstanceModel(profile)
    alone.arrive(EngineRequest("r", 40, 400), 0)
    assert turned(Knob(frequency=0.5)).requests.finish_us[0] == alone.advance(10**14)[-1].at_ps // 10**6


def test_a_knob_works_from_its_time_on_until_the_next() -> None:
    full, half = turned().requests, turned(Knob(frequency=0.5)).requests
    some = turned(Knob(at_s=1.0, frequency=0.5), Knob(at_s=2.0, frequency=1.0))
    assert some.requests.first_us[0] == full.first_us[0]
    assert full.finish_us[0] < some.requests.finish_us[0] < half.finish_us[0]
    assert some.turns == (KnobTurn(S, "local-1/model", 0.5), KnobTurn(2 * S, "local-1/model", 1.0))


def test_one_place_or_all_of_a_model_are_turned() -> None:
    plain, one = (turned(*knobs, count=2) for knobs in ((), [Knob(place=1, frequency=0.5)]))
    slower = one.requests.finish_us - plain.requests.finish_us
    assert sorted(slower.tolist())[0] == 0 < slower.max()
    assert {turn.instance_id for turn in one.turns} == {"local-2/model"}


def test_a_place_that_nobody_has_is_counted() -> None:
    assert turned(Knob(place=3, frequency=0.5)).counters["knobs_missed"] == 1


def test_instances_that_start_later_are_turned_too() -> None:
    growing = group(1, instances_max=2, concurrency_target=1.0)
    result = run(workload([0] * 8, 40, 1_200), world(growing, knobs=(Knob(frequency=0.5),)))
    assert {turn.instance_id for turn in result.turns} == {"local-1/model", "local-2/model"}
    assert result.turns[1].at_us > 0


@pytest.mark.parametrize("frequency", [-1.0, 3.0])
def test_a_clock_that_stands_or_flies_is_refused(frequency: float) -> None:
    with pytest.raises(ValueError, match="frequency must be above 0"):
        Knob(frequency=frequency)


def test_a_knob_that_turns_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="turns nothing: give frequency, max_seqs or max_batch_tokens"):
        Knob(at_s=3.0)


def test_fewer_seats_let_others_wait_and_are_given_to_those_who_start_later_too() -> None:
    growing = group(1, instances_max=2, concurrency_target=2.0)
    waits = [
        run(workload([0] * 8, 40, 1_200), world(growing, knobs=knobs)).requests
        for knobs in ((), (Knob(max_seqs=1),), (Knob(max_seqs=1), Knob(at_s=1.0, max_seqs=8)))
    ]
    last_s = [max(one.finish_us) / S for one in waits]
    assert last_s[0] <= last_s[2] < last_s[1]
    assert min(waits[1].first_us) == min(waits[0].first_us)


def test_a_smaller_budget_cuts_prompts_into_more_chunks_and_needs_room_for_all_decodes() -> None:
    plain, cut = (turned(*knobs, output_tokens=2) for knobs in ((), [Knob(max_batch_tokens=10)]))
    assert cut.requests.first_us[0] > plain.requests.first_us[0]
    with pytest.raises(ValueError, match="max_batch_tokens must be above the 8 seats of an engine, not 8"):
        turned(Knob(max_batch_tokens=8))


def test_limits_at_their_stops_change_nothing() -> None:
    plain, limited = (turned(*knobs, count=3) for knobs in ((), [Knob(max_seqs=99, max_batch_tokens=9_999)]))
    assert plain.requests.finish_us.tolist() == limited.requests.finish_us.tolist()


def test_a_model_that_no_group_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[\[knobs\]\]: no group has the model 'x'; models of groups: model"):
        turned(Knob(model="x", frequency=0.5))


# Energy


def energy(*knobs: Knob, busy_watts: float = 400.0, idle_watts: float = 100.0) -> tuple[float, RunResult]:
    of = world(group(1, busy_watts=busy_watts, idle_watts=idle_watts), knobs=knobs, horizon_s=36.0)
    # The second request comes after the end, so that the instance idles until then.
    result = run(workload([0, 37 * S], 40, 400), of)
    return fleet_usage(result, of).energy_kwh, result


def test_gpus_draw_more_while_they_serve() -> None:
    kwh, result = energy()
    busy_h = int(result.requests.finish_us[0]) / S / 3_600
    assert kwh == pytest.approx((1 + 300 * busy_h) / 1_000)


def test_a_lower_clock_takes_longer_and_less_energy() -> None:
    kwh, result = energy(Knob(frequency=0.5))
    busy_h = int(result.requests.finish_us[0]) / S / 3_600
    assert kwh == pytest.approx((1 + 300 * 0.5**3 * busy_h) / 1_000)
    assert kwh < energy()[0]
    idle_kwh = energy(Knob(frequency=0.5), busy_watts=100.0)[0]
    assert idle_kwh == pytest.approx(energy(busy_watts=100.0)[0]) == pytest.approx(0.001)


def test_each_piece_of_time_has_its_own_clock() -> None:
    kwh, result = energy(Knob(at_s=1.0, frequency=0.5))
    busy_s = int(result.requests.finish_us[0]) / S
    assert kwh == pytest.approx((1 + 300 * (1 + 0.5**3 * (busy_s - 1)) / 3_600) / 1_000)


def test_without_watts_no_energy_is_told() -> None:
    assert energy(busy_watts=0.0, idle_watts=0.0)[0] == 0.0
    with pytest.raises(ValueError, match="idle_watts must be from 0 to busy_watts"):
        Group(model="m", profile=PROFILE, busy_watts=10.0, idle_watts=20.0)
