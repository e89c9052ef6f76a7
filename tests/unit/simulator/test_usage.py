"""GPU-hours, waste and scaling are counted as the terms of measure say."""

import pytest

from forebay.simulator.config import Group, World
from forebay.simulator.results import FleetChange
from forebay.simulator.usage import FleetUsage, count_reversals, find_stays, fleet_usage
from tests.unit.simulator.made import UNFINISHED, WORLD, S, change, columns, result

H = 3600.0


def used(
    *changes: FleetChange, busy_s: tuple[tuple[float, float], ...] = (), end_s: float = H, world: World = WORLD
) -> FleetUsage:
    starts, ends = [int(a * S) for a, _ in busy_s], [int(b * S) for _, b in busy_s]
    return fleet_usage(result(columns(starts, starts, ends), changes, end_s), world)


def test_an_instance_that_is_always_there_is_paid_from_the_start_to_the_end() -> None:
    usage = used(change(0, "a/m", "READY", gpu_count=4), busy_s=((0, 900), (600, 1800), (1800, 1800)))
    assert (usage.gpu_hours, usage.serving_gpu_hours, usage.idle_gpu_hours) == (4.0, 2.0, 2.0)
    assert (usage.instance_hours, usage.cost, usage.instances_mean, usage.instances_peak) == (1.0, 8.0, 1.0, 1)
    assert (usage.scaling_count, usage.wasted_gpu_hours) == (0, 0.0)


def test_loading_and_draining_count_and_spot_does_not() -> None:
    usage = used(
        change(0, "a/m", "PROVISIONING"),
        change(360, "a/m", "LOADING"),
        change(720, "a/m", "READY"),
        change(1080, "a/m", "DRAINING"),
        change(1440, "a/m", "SPOT"),
        change(1800, "a/m", "STOPPED"),
        busy_s=((0, 1440),),
    )
    hours = (usage.loading_gpu_hours, usage.serving_gpu_hours, usage.draining_gpu_hours, usage.spot_gpu_hours)
    assert hours == pytest.approx((0.2, 0.1, 0.1, 0.1))
    assert usage.provisioning_gpu_hours == pytest.approx(0.1)
    assert usage.gpu_hours == pytest.approx(0.4)
    assert usage.scaling_count == 2


def test_the_stay_of_an_instance_that_did_not_pay_its_loading_back_is_wasted() -> None:
    life = (change(0, "a/m", "LOADING"), change(600, "a/m", "READY"), change(1800, "a/m", "DRAINING"))
    end = change(1801, "a/m", "STOPPED")
    undone, repaid = used(*life, end, busy_s=((600, 1199),)), used(*life, end, busy_s=((600, 1200),))
    assert (undone.undone_count, repaid.undone_count) == (1, 0)
    assert undone.wasted_gpu_hours == pytest.approx(undone.gpu_hours)
    assert repaid.wasted_gpu_hours == pytest.approx(600 / H)


def test_an_instance_that_stays_is_not_undone() -> None:
    usage = used(change(0, "a/m", "LOADING"), change(1800, "a/m", "READY"))
    assert (usage.undone_count, usage.wasted_gpu_hours) == (0, 0.5)


def test_a_lost_instance_is_no_scaling_action_and_is_paid_until_then() -> None:
    usage = used(change(0, "a/m", "READY"), change(1800, "a/m", "LOST"))
    assert (usage.gpu_hours, usage.scaling_count, usage.lost_count) == (0.5, 0, 1)


def test_an_id_that_comes_back_is_a_new_stay() -> None:
    changes = [change(0, "a/m", "READY"), change(10, "a/m", "STOPPED"), change(20, "a/m", "LOADING")]
    assert [len(stay.steps) for stay in find_stays(changes)] == [2, 1]


def test_the_lives_of_one_id_are_busy_each_for_itself() -> None:
    life = (change(0, "a/m", "READY"), change(900, "a/m", "STOPPED"), change(1800, "a/m", "READY"))
    rows = columns([0, 1800 * S], [S, 1801 * S], [900 * S, 2700 * S], instance=[0, 1])
    usage = fleet_usage(result(rows, life, instances=("a/m", "a/m")), WORLD)
    assert (usage.serving_gpu_hours, usage.idle_gpu_hours) == (0.5, 0.25)


def test_a_reversal_is_an_opposite_action_on_the_same_model_and_region_within_a_load_time() -> None:
    def reversals(*actions: tuple[int, int, str, str]) -> int:
        return count_reversals(actions, loading_us=60.0)

    assert reversals((0, 1, "m", "r"), (60, -1, "m", "r")) == 1
    assert reversals((0, 1, "m", "r"), (61, -1, "m", "r")) == 0
    assert reversals((0, 1, "m", "r"), (10, -1, "n", "r"), (20, -1, "m", "s"), (30, 1, "m", "r")) == 0
    assert reversals((0, 1, "m", "r"), (10, -1, "m", "r"), (20, 1, "m", "r")) == 2


def test_a_request_that_never_ended_keeps_its_instance_busy() -> None:
    rows = columns([0], [-1], [-1], status=[UNFINISHED])
    assert fleet_usage(result(rows, (change(0, "a/m", "READY"),)), WORLD).serving_gpu_hours == 1.0


def test_prices_are_those_of_the_group_with_the_same_gpu_and_region() -> None:
    world = World(
        groups=(
            Group(model="m", profile="A100-80G/Llama-3-8B/tp1", gpu_hour_price=1.0),
            Group(model="m", profile="H100/Llama-3-8B/tp1", gpu_hour_price=3.0, region="other"),
            Group(model="n", profile="H100/Llama-3-8B/tp1", gpu_hour_price=9.0),
        )
    )
    assert used(change(0, "a/m", "READY"), world=world).cost == 3.0
