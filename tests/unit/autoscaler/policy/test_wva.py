"""The saturation analyzers, with shares and tokens counted by hand; a cache has 10,000 tokens."""

from dataclasses import replace
from typing import Any

import pytest

from forebay.autoscaler.policy.autoscaler.base import Arrived, DemandView, FleetChoice, InstanceView, PoolView
from forebay.autoscaler.policy.autoscaler.wva import Wva
from forebay.core.values import ModelLoad, SloClass
from tests.unit.autoscaler.policy.kit import NOW, S, fleet, server, view

V1, V2 = Wva(form="v1"), Wva()
ENDED = ModelLoad("m", ended_count=60, prompt_tokens=60 * 300, response_tokens=60 * 200)
"""300 tokens in and 200 out, once a second."""


def pool(*shares: float | None, queue: int = 0, **others: Any) -> PoolView:
    """A pool whose servers tell these shares, each with a queue and running requests."""
    name = others.pop("pool", "m")
    instances = tuple(server(f"{name}-{n}", share, running=4, waiting=queue) for n, share in enumerate(shares))
    settings = {"instances": instances, "kv_tokens": 10_000, "pool": name, **others}
    return view(ready=len(shares), wanted=settings.pop("wanted", len(shares)), **settings)


def counts(choice: FleetChoice) -> dict[str, int]:
    return {name: one.instances_wanted for name, one in choice.pools.items()}


@pytest.mark.parametrize(
    ("shares", "queue", "expected"),
    [
        ([0.6, 0.7], 0, 2),  # 0.15 spare on average; on one alone 1.3 would be
        ([0.75, 0.7], 0, 3),  # 0.075 spare
        ([0.3, 0.3], 0, 1),  # on one alone 0.6: 0.2 spare
        ([0.3, 0.45], 0, 2),  # 0.75: 0.05 spare
        ([0.2, 0.85], 0, 2),  # the saturated one does not count, and one alone does not leave
        ([0.9, 0.85], 0, 3),  # all are saturated
        ([0.2, 0.2], 3, 3),  # a spare queue of 2
        ([0.2, 0.2, 0.2], 1, 2),  # 1.5 queued on two: 3.5 spare
        ([0.2, 0.2], 2, 2),  # 4 queued on one: 1 spare
        ([0.1], 0, 1),
    ],
)
def test_version_1_keeps_something_spare(shares: list[float], queue: int, expected: int) -> None:
    assert counts(V1.plan(fleet(pool(*shares, queue=queue)))) == {"m": expected}


def test_what_starts_blocks_a_second_step_up() -> None:
    assert counts(V1.plan(fleet(pool(0.9, wanted=2, starting_count=1)))) == {"m": 2}


def test_the_cheapest_pool_grows_and_the_dearest_shrinks() -> None:
    cheap, dear = pool(0.75, pool="cheap", gpu_hour_price=1.0), pool(0.75, pool="dear", gpu_hour_price=2.0)
    assert counts(V1.plan(fleet(cheap, dear))) == {"cheap": 2, "dear": 1}
    assert counts(V1.plan(fleet(replace(cheap, instances_max=1), dear))) == {"cheap": 1, "dear": 2}
    idle = fleet(pool(0.1, pool="cheap", gpu_count=2), pool(0.1, pool="dear", gpu_count=3))
    for policy in (V1, V2):
        assert counts(policy.plan(idle)) == {"cheap": 1, "dear": 0}


def test_version_2_supplies_tokens_for_the_demand() -> None:
    # k1 = 8,000 each. 15,000 in use over 0.85 are 17,647 of 16,000: one more.
    assert counts(V2.plan(fleet(pool(0.75, 0.75)))) == {"m": 3}
    # 13,000 over 0.85 are 15,294, and over 0.70 18,571: neither way.
    assert counts(V2.plan(fleet(pool(0.65, 0.65)))) == {"m": 2}
    # 4,000 over 0.70 are 5,714 of 32,000: 26,286 are three instances.
    assert counts(V2.plan(fleet(pool(0.1, 0.1, 0.1, 0.1)))) == {"m": 1}


def test_what_waits_counts_whole_and_what_starts_supplies_already() -> None:
    # 5,000 in use and 10 * 500 waiting: 11,765 of 8,000, one more; which is on its way in the second case.
    waiting = replace(ENDED, held_count=6)
    assert counts(V2.plan(fleet(pool(0.5, queue=4, load=waiting)))) == {"m": 2}
    starting = pool(0.5, queue=4, load=waiting, wanted=2, starting_count=1)
    assert counts(V2.plan(fleet(starting))) == {"m": 2}


def test_a_saturated_queue_teaches_what_a_replica_holds() -> None:
    first = V2.plan(fleet(pool(0.5, queue=5, load=ENDED)))
    # It held 5,000 when 5 waited: 5,000 + 2,500 over 0.85 are 8,824 of 5,000.
    assert first.pools["m"].inputs["supply_tokens"] == 5_000.0
    assert counts(first) == {"m": 2}
    later = V2.plan(fleet(pool(0.3, load=ENDED, now_us=NOW + 30 * S), memo=first.memo))
    assert later.pools["m"].inputs["supply_tokens"] == 5_000.0
    # Of longer answers nothing was seen yet.
    long = replace(ENDED, response_tokens=60 * 600)
    other = V2.plan(fleet(pool(0.3, load=long, now_us=NOW + 30 * S), memo=first.memo))
    assert other.pools["m"].inputs["supply_tokens"] == 8_000.0


def test_the_last_ten_sightings_count() -> None:
    memo: dict[str, float] = {}
    for number in range(12):
        now_us = NOW + number * 30 * S
        share = 0.1 if number < 2 else 0.6
        choice = V2.plan(fleet(pool(share, queue=5, load=ENDED, now_us=now_us), memo=memo))
        memo = dict(choice.memo)
    assert choice.pools["m"].inputs["supply_tokens"] == pytest.approx(6_000.0)


def test_before_that_seats_and_batch_budget_limit_a_replica() -> None:
    # min(8,192 * 200 / 500, 8 seats) * (300 + 100)
    few = Wva(seqs_max=8.0).plan(fleet(pool(0.3, load=ENDED)))
    assert few.pools["m"].inputs["supply_tokens"] == 3_200.0
    slow = Wva(batch_tokens=10.0).plan(fleet(pool(0.3, load=ENDED)))
    assert slow.pools["m"].inputs["supply_tokens"] == pytest.approx(1_600.0)


def steps(policy: Wva, *shares: float, ended: ModelLoad = ENDED) -> tuple[FleetChoice, dict[str, float]]:
    """Cycles with these shares, at a time of 10 ms + 40 ms * share a step: 4 run, so 4 / step tokens a second."""
    memo: dict[str, float] = {"m|step:since_s": 0.0}
    for number, share in enumerate(shares):
        load = replace(ended, response_tokens=round(60 * 4 / (0.010 + 0.040 * share)))
        load = replace(load, ended_count=load.response_tokens // 200, prompt_tokens=load.response_tokens * 3 // 2)
        choice = policy.plan(fleet(pool(share, load=load, now_us=NOW + number * 30 * S), memo=memo))
        memo = dict(choice.memo)
    return choice, memo


def test_the_throughput_analyzer_learns_how_long_a_step_takes() -> None:
    choice, _ = steps(Wva(learns_steps=True), *(0.2 + 0.05 * number for number in range(12)))
    # ITL(0.85) = 44 ms; 0.85 * 10,000 / 400 = 21.25 requests / 0.044 s.
    assert choice.pools["m"].inputs["throughput_supply"] == pytest.approx(21.25 / 0.044, rel=0.01)


def test_until_the_line_is_learnt_a_step_has_a_floor_of_6_ms() -> None:
    choice, memo = steps(Wva(learns_steps=True), 0.5)
    # One point of 30 ms at 0.5: a slope of 48 ms; at 0.85 46.8 ms.
    assert choice.pools["m"].inputs["throughput_supply"] == pytest.approx(21.25 / 0.0468, rel=0.01)
    assert memo["m|step:0:s"] == pytest.approx(0.030, rel=0.01)


def test_a_shift_of_lengths_begins_the_line_anew() -> None:
    policy = Wva(learns_steps=True)
    _, memo = steps(policy, 0.3, 0.5)
    longer = replace(ENDED, response_tokens=60 * 245)
    moved = policy.plan(fleet(pool(0.5, load=longer, now_us=NOW + 90 * S), memo=memo)).memo
    assert [name for name in moved if name.endswith("at_s")] == ["m|step:2:at_s"]


def test_any_analyzer_scales_up_and_all_have_to_agree_to_scale_down() -> None:
    policy = Wva(learns_steps=True)
    arrived = tuple(Arrived(NOW - ago * S, 5.0 * (60 - ago), 0.0, 0.0) for ago in (60, 0))
    demands = (DemandView("m", "local", SloClass.INTERACTIVE_FAST, arrived),)
    load = replace(ENDED, response_tokens=8_000, ended_count=40, prompt_tokens=12_000)
    # A step takes 30 ms at 0.5: 454 tokens/s are supplied, and 5 * 200 arrive.
    busy, memo = pool(0.5, load=load), {"m|step:since_s": 0.0}
    assert counts(V2.plan(fleet(busy, demands=demands))) == {"m": 1}
    assert counts(policy.plan(fleet(busy, demands=demands, memo=memo))) == {"m": 3}
    # In the first minute nothing is learnt from what has ended.
    assert counts(policy.plan(fleet(busy, demands=demands))) == {"m": 1}
    idle = pool(0.15, 0.15, 0.15, load=load)
    assert counts(V2.plan(fleet(idle, demands=demands))) == {"m": 1}
    kept = policy.plan(fleet(idle, demands=demands, memo=memo))
    assert counts(kept)["m"] >= 3


def test_saturation_is_looked_at_once_a_period() -> None:
    first = V2.plan(fleet(pool(0.75, 0.75)))
    again = V2.plan(fleet(pool(0.9, 0.9, now_us=NOW + 29 * S), memo=first.memo))
    assert counts(again) == {"m": 2}
    assert counts(V2.plan(fleet(pool(0.9, 0.9, now_us=NOW + 30 * S), memo=first.memo))) == {"m": 3}


def test_what_does_not_tell_its_load_is_no_evidence() -> None:
    for policy in (V1, V2):
        assert counts(policy.plan(fleet(pool(None, None)))) == {"m": 2}
        assert counts(policy.plan(fleet(pool(0.1, None, 0.1)))) == {"m": 3}
        mute = pool(0.1, 0.1)
        mute = replace(mute, instances=(*mute.instances[:1], InstanceView("x", 0)))
        assert counts(policy.plan(fleet(mute))) == {"m": 2}


def test_from_none_a_request_that_is_held_brings_the_cheapest() -> None:
    held = ModelLoad("m", held_count=1)
    pools = (pool(pool="dear", gpu_hour_price=3.0, load=held), pool(pool="cheap", gpu_hour_price=2.0, load=held))
    assert counts(V2.plan(fleet(*pools))) == {"dear": 0, "cheap": 1}
    assert counts(V2.plan(fleet(pool()))) == {"m": 0}


def test_models_are_apart() -> None:
    other = replace(pool(0.1, 0.1, pool="n"), model="n")
    assert counts(V2.plan(fleet(pool(0.9, 0.9), other))) == {"m": 3, "n": 1}


@pytest.mark.parametrize(
    "parameters",
    [{"form": "v3"}, {"kv_max": 0.0}, {"queue_spare": 0.0}, {"load_down": 0.9}, {"period_s": 0.0}, {"kv_spare": 0.9}],
)
def test_thresholds_that_are_empty_or_do_not_fit_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"needs|must"):
        Wva(**parameters)


def test_a_pool_whose_cache_nobody_knows_neither_grows_nor_shrinks() -> None:
    known, unknown = pool(0.9, 0.9, pool="a"), pool(0.9, pool="b", kv_tokens=0, gpu_hour_price=0.5)
    assert counts(V2.plan(fleet(known, unknown))) == {"a": 3, "b": 1}
    idle = pool(0.1, 0.1, pool="a")
    assert counts(V2.plan(fleet(idle, replace(unknown, instances=())))) == {"a": 2, "b": 1}
