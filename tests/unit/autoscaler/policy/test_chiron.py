"""Chiron's two back-pressures in closed form, with values computed by hand; an instance does 100 tokens a second."""

from dataclasses import replace
from math import ceil
from typing import Any

import pytest

from forebay.autoscaler.policy.autoscaler.base import FleetChoice, InstanceView, Lead, PoolView, Stock
from forebay.autoscaler.policy.autoscaler.chiron import Chiron
from forebay.core.pressure import WaitingGroup
from forebay.core.values import InstanceRole, ModelLoad, SloClass
from tests.unit.autoscaler.policy.kit import NOW, RATES, S, fleet, heard, view

FAST, DEFERRED = SloClass.INTERACTIVE_FAST, SloClass.DEFERRED
LEAD = Lead(30 * S, 60 * S)
MEAN = Chiron(z=0.0)


def pool(role: InstanceRole, running: int, idle: int, name: str = "", **others: Any) -> PoolView:
    """A pool in which some instances run one interactive request each (a deferred one where it is for batches)."""
    name = name or role.name.lower()
    kind = "deferred_count" if role is InstanceRole.BATCH else "interactive_count"
    counts = [1] * running + [0] * idle
    instances = tuple(heard(f"{name}-{number}", **{kind: count}) for number, count in enumerate(counts))
    settings = {"pool": name, "role": role, "instances": instances, "lead": LEAD, "capability": RATES, **others}
    return view(ready=len(counts), wanted=settings.pop("wanted", len(counts)), **settings)


def mixed(running: int, idle: int, **others: Any) -> PoolView:
    return pool(InstanceRole.MIXED, running, idle, **others)


def batch(running: int, idle: int, **others: Any) -> PoolView:
    return pool(InstanceRole.BATCH, running, idle, **others)


def group(left_s: float, tokens: float, count: int = 10, **others: Any) -> WaitingGroup:
    """Deferred work that is due in so many seconds."""
    settings = {"slo_class": DEFERRED, "region": "local", **others}
    return WaitingGroup(
        "m", due_us=NOW + int(left_s * S), oldest_us=NOW, request_count=count, mean_tokens=tokens, **settings
    )


def counts(choice: FleetChoice) -> dict[str, int]:
    return {name: one.instances_wanted for name, one in choice.pools.items()}


@pytest.mark.parametrize(
    ("running", "idle", "expected"),
    [
        (1, 2, 3),  # 1/3: just as many as may
        (2, 1, 6),  # 2 / (1/3)
        (1, 0, 3),
        (1, 3, 4),  # 0.25 is not below 1/3 * 0.75
        (1, 4, 3),  # 0.2 is
        (0, 4, 0),
        (7, 0, 21),
    ],
)
def test_both_ways_lead_to_the_same_number(running: int, idle: int, expected: int) -> None:
    assert counts(Chiron().plan(fleet(mixed(running, idle)))) == {"mixed": expected}


def test_where_gpus_are_not_limited_it_does_not_matter_how_many_an_instance_takes() -> None:
    assert counts(Chiron().plan(fleet(mixed(2, 1, gpu_count=4)))) == {"mixed": 6}
    assert counts(MEAN.plan(fleet(batch(0, 0, gpu_count=8), waiting=(group(110, 10_000),)))) == {"batch": 2}


def test_with_theta_1_the_interactive_part_never_adds() -> None:
    for running in range(5):
        assert counts(Chiron(theta=1.0, dead_band=0.0).plan(fleet(mixed(running, 0)))) == {"mixed": running}


def test_a_spike_of_one_over_theta_finds_an_instance_for_each() -> None:
    for running in range(1, 10):
        settled = counts(Chiron().plan(fleet(mixed(running, 0))))["mixed"]
        assert settled >= 3 * running


def test_what_starts_counts_and_is_not_added_again() -> None:
    assert counts(Chiron().plan(fleet(mixed(1, 0, wanted=3, starting_count=2)))) == {"mixed": 3}


def test_interactive_pools_come_first_and_mixed_ones_take_the_head_room() -> None:
    interactive = pool(InstanceRole.INTERACTIVE, 2, 0)
    assert counts(Chiron().plan(fleet(interactive, mixed(0, 0)))) == {"interactive": 2, "mixed": 4}
    # Without room there the interactive pool takes the rest; and mixed ones leave first.
    assert counts(Chiron().plan(fleet(interactive, mixed(0, 0, instances_max=1)))) == {"interactive": 5, "mixed": 1}
    quiet = pool(InstanceRole.INTERACTIVE, 1, 3)
    assert counts(Chiron().plan(fleet(quiet, mixed(0, 2)))) == {"interactive": 3, "mixed": 0}


def test_the_cheapest_pool_grows_within_its_stock_and_the_dearest_shrinks() -> None:
    cheap = mixed(1, 0, name="cheap", gpu="L4", gpu_hour_price=1.0)
    dear = mixed(1, 0, name="dear", gpu="H100", gpu_hour_price=3.0)
    assert counts(Chiron().plan(fleet(cheap, dear))) == {"cheap": 5, "dear": 1}
    stocks = (Stock("local", "L4", 3),)
    assert counts(Chiron().plan(fleet(cheap, dear, stocks=stocks))) == {"cheap": 3, "dear": 3}
    idle = [replace(one, instances=tuple(heard(one.pool) for _ in range(1))) for one in (cheap, dear)]
    assert counts(Chiron().plan(fleet(idle[0], replace(idle[1], instances_min=1)))) == {"cheap": 0, "dear": 1}


def test_regions_have_their_own_head_room() -> None:
    east, west = mixed(1, 0, name="east", region="east"), mixed(0, 1, name="west", region="west")
    assert counts(Chiron().plan(fleet(east, west))) == {"east": 3, "west": 0}


def test_with_none_at_all_a_request_that_waits_asks_for_the_head_room() -> None:
    waiting = group(0.0, 10.0, slo_class=FAST)
    assert counts(Chiron().plan(fleet(mixed(0, 0), waiting=(waiting,)))) == {"mixed": 3}
    assert counts(Chiron().plan(fleet(mixed(0, 0)))) == {"mixed": 0}
    elsewhere = replace(waiting, region="far")
    assert counts(Chiron().plan(fleet(mixed(0, 0), waiting=(elsewhere,)))) == {"mixed": 3}


def test_an_idle_pool_shrinks_without_any_arrival() -> None:
    # A port of Chiron by others looks only when a request arrives: idle pools stay as they are.
    assert counts(Chiron().plan(fleet(mixed(0, 20, instances_min=2)))) == {"mixed": 2}


def test_nothing_leaves_while_one_is_not_heard_of_or_starts() -> None:
    idle = mixed(0, 4)
    deaf = replace(idle, instances=(*idle.instances[:3], InstanceView("x", 0)))
    assert counts(Chiron().plan(fleet(deaf))) == {"mixed": 4}
    assert counts(Chiron().plan(fleet(replace(idle, ready_count=3, starting_count=1)))) == {"mixed": 4}


def test_opposite_actions_are_a_start_apart() -> None:
    up = Chiron().plan(fleet(mixed(2, 0)))
    early = fleet(mixed(0, 6, now_us=NOW + 59 * S), memo=up.memo)
    assert counts(Chiron().plan(early)) == {"mixed": 6}
    down = Chiron().plan(fleet(mixed(0, 6, now_us=NOW + 60 * S), memo=up.memo))
    assert counts(down) == {"mixed": 0}
    again = fleet(mixed(1, 0, now_us=NOW + 61 * S), memo=down.memo)
    assert counts(Chiron().plan(again)) == {"mixed": 1}


def test_a_deadline_in_danger_brings_as_many_batch_instances_as_it_needs() -> None:
    # 60,000 tokens at 100/s are 600 instance-seconds; of 160 s the start takes 60: six.
    choice = MEAN.plan(fleet(batch(0, 0), waiting=(group(160.0, 60_000.0),)))
    assert counts(choice) == {"batch": 6}
    # Three that serve do 480 of the 600, and 120 / 100 are two more.
    assert counts(MEAN.plan(fleet(batch(3, 0), waiting=(group(160.0, 60_000.0),)))) == {"batch": 5}


def test_what_starts_for_a_group_is_not_started_again() -> None:
    starting = batch(0, 0, wanted=6, starting_count=6)
    assert counts(MEAN.plan(fleet(starting, waiting=(group(160.0, 60_000.0),)))) == {"batch": 6}


def test_spare_room_of_mixed_instances_is_used_first() -> None:
    # Of 3 mixed instances one has 1 of 10 seats taken: 2.9 of them do 290 tokens a second.
    whole = fleet(mixed(1, 2), batch(0, 0), waiting=(group(300.0, 87_000.0),))
    assert counts(MEAN.plan(whole)) == {"mixed": 3, "batch": 0}
    more = fleet(mixed(1, 2), batch(0, 0), waiting=(group(300.0, 88_000.0),))
    assert counts(MEAN.plan(more)) == {"mixed": 3, "batch": 1}


def test_the_cap_of_an_instance_says_how_much_room_is_left() -> None:
    capped = mixed(0, 0, instances=(heard("a", interactive_count=3, cap=4),), ready_count=1, instances_wanted=3)
    assert MEAN.plan(fleet(capped, batch(0, 0), waiting=(group(300.0, 1.0),))).pools["batch"].inputs["spare"] == 0.25


def test_only_far_deadlines_take_one_instance_and_none_when_all_is_done() -> None:
    far = group(86_400.0, 100_000.0)
    assert counts(Chiron().plan(fleet(batch(0, 0), waiting=(far,)))) == {"batch": 1}
    assert counts(Chiron().plan(fleet(batch(1, 0), waiting=(far,)))) == {"batch": 1}
    assert counts(Chiron().plan(fleet(batch(1, 1)))) == {"batch": 1}
    assert counts(Chiron().plan(fleet(batch(0, 2)))) == {"batch": 0}


def test_batch_instances_leave_only_with_slack_of_two_starts() -> None:
    # 300 instance-seconds, and slack of two starts, 120 s: with 60 s more than that 5 are needed, with 100 s 3 are.
    assert counts(MEAN.plan(fleet(batch(5, 0), waiting=(group(179.0, 30_000.0),)))) == {"batch": 5}
    assert counts(MEAN.plan(fleet(batch(5, 0), waiting=(group(180.0, 30_000.0),)))) == {"batch": 5}
    assert counts(MEAN.plan(fleet(batch(5, 0), waiting=(group(220.0, 30_000.0),)))) == {"batch": 3}
    near = (group(100.0, 100.0), group(220.0, 29_900.0))
    assert counts(MEAN.plan(fleet(batch(5, 0), waiting=near))) == {"batch": 5}


def test_what_batch_instances_have_left_is_ahead_of_what_waits() -> None:
    running = (heard("a", deferred_count=1, remaining_tokens=16_000.0),)
    one = batch(0, 0, instances=running, ready_count=1, instances_wanted=1)
    assert counts(MEAN.plan(fleet(one, waiting=(group(160.0, 10_000.0),)))) == {"batch": 2}


def test_groups_that_nothing_can_save_are_reported_and_drive_nothing() -> None:
    choice = MEAN.plan(fleet(batch(0, 0), waiting=(group(60.0, 60_000.0), group(50.0, 10.0))))
    assert counts(choice) == {"batch": 0}
    assert choice.pools["batch"].inputs["lost"] == 2.0
    assert "later deadlines" in choice.warnings[0]


def test_the_bound_asks_for_more_than_the_mean() -> None:
    # 600 + 1.64 * 100 instance-seconds of 100.
    uncertain = group(160.0, 60_000.0, variance=1e8)
    assert counts(Chiron().plan(fleet(batch(0, 0), waiting=(uncertain,)))) == {"batch": ceil(7.64)}


def test_one_mixed_pool_carries_both() -> None:
    work = group(160.0, 60_000.0)
    # It has 0.9 to spare, which does 144 of 600 instance-seconds: 4.56 of 100 s more are five.
    assert counts(MEAN.plan(fleet(mixed(1, 0), waiting=(work,)))) == {"mixed": 6}
    # None leaves as long as the groups need them all (600 / 40 s), and with time enough only some do: 0.1 + 600 / 150.
    assert counts(MEAN.plan(fleet(mixed(1, 5), waiting=(work,)))) == {"mixed": 6}
    assert counts(MEAN.plan(fleet(mixed(1, 7), waiting=(group(270.0, 60_000.0),)))) == {"mixed": 5}
    assert counts(MEAN.plan(fleet(mixed(1, 7)))) == {"mixed": 3}


def test_without_a_capability_the_pace_is_measured_and_remembered() -> None:
    unknown: dict[str, Any] = {"capability": replace(RATES, response_tokens_per_s=0.0)}
    nothing = MEAN.plan(fleet(batch(2, 0, **unknown), waiting=(group(160.0, 60_000.0),)))
    assert counts(nothing) == {"batch": 2}
    assert "forebay profile" in nothing.warnings[0]
    # 12,000 tokens of two instances in a minute: 100 a second each.
    load = ModelLoad("m", response_tokens=12_000)
    measured = MEAN.plan(fleet(batch(2, 0, load=load, **unknown), waiting=(group(160.0, 60_000.0),)))
    assert measured.pools["batch"].inputs["pace"] == 100.0
    later = batch(2, 0, now_us=NOW + 300 * S, **unknown)
    again = MEAN.plan(fleet(later, waiting=(group(160.0, 1.0),), memo=measured.memo))
    assert again.pools["batch"].inputs["pace"] == 50.0


@pytest.mark.parametrize("parameters", [{"theta": 0.0}, {"theta": 1.1}, {"dead_band": 1.0}, {"z": -1.0}])
def test_parameters_that_cannot_work_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Chiron(**parameters)
