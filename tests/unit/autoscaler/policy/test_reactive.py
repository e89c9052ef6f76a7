"""One more when caches are full, one less when they are empty, and not before the last one is there."""

from dataclasses import replace

import pytest

from forebay.autoscaler.policy.autoscaler.base import InstanceView, Lead, PoolView
from forebay.autoscaler.policy.autoscaler.reactive import Reactive
from forebay.core.values import InstanceLoad
from tests.unit.autoscaler.policy.kit import NOW, S, view

DUE = {"due_us": 0.0}


def pool(*shares: float | None, wanted: int = 2, memo: dict[str, float] | None = None, now_us: int = NOW) -> PoolView:
    """A pool whose instances have these shares of their caches in use."""
    instances = tuple(
        InstanceView(f"i{n}", 0, InstanceLoad(f"i{n}", "m", True, kv_utilization=share))
        for n, share in enumerate(shares)
    )
    seen = view(5.0, ready=len(shares), wanted=wanted, memo=DUE if memo is None else memo, now_us=now_us)
    return replace(seen, instances=instances, kv_tokens=1_000, lead=Lead(60 * S, 90 * S))


@pytest.mark.parametrize(("shares", "wanted"), [((0.9, 0.6), 3), ((0.7, 0.7), 2), ((0.3, 0.3), 2), ((0.1, 0.4), 1)])
def test_the_pool_grows_above_70_percent_and_shrinks_below_30(shares: tuple[float, float], wanted: int) -> None:
    assert Reactive().choose(pool(*shares)).instances_wanted == wanted


def test_the_codes_thresholds_are_parameters() -> None:
    policy = Reactive(out_above=0.50, in_below=0.25)
    assert [policy.choose(pool(share, share)).instances_wanted for share in (0.51, 0.3, 0.24)] == [3, 2, 1]


def test_after_an_addition_the_next_step_waits_as_long_as_a_start_takes() -> None:
    first = Reactive().choose(pool(0.9, 0.9))
    memo = dict(first.memo)
    early = Reactive().choose(pool(0.9, 0.9, 0.9, wanted=3, memo=memo, now_us=NOW + 74 * S))
    late = Reactive().choose(pool(0.9, 0.9, 0.9, wanted=3, memo=memo, now_us=NOW + 75 * S))
    assert (early.instances_wanted, late.instances_wanted) == (3, 4)


def test_the_first_step_waits_since_what_has_just_begun_is_empty() -> None:
    first = Reactive().choose(pool(0.0, 0.0, memo={}))
    assert first.instances_wanted == 2
    assert Reactive().choose(pool(0.0, 0.0, memo=dict(first.memo), now_us=NOW + 15 * S)).instances_wanted == 1


def test_after_a_removal_only_the_step_is_waited_for() -> None:
    memo = dict(Reactive().choose(pool(0.1, 0.1)).memo)
    again = Reactive().choose(pool(0.1, wanted=1, memo=memo, now_us=NOW + 15 * S))
    assert again.instances_wanted == 0


def test_what_is_asked_for_and_not_there_yet_is_waited_for() -> None:
    assert Reactive().choose(pool(0.9, 0.9, wanted=4)).instances_wanted == 4


def test_a_pool_that_never_got_all_it_asked_for_shrinks_all_the_same() -> None:
    assert Reactive().choose(pool(0.0, 0.0, wanted=4)).instances_wanted == 3
    # One that leaves already is waited for.
    assert Reactive().choose(pool(0.0, 0.0, wanted=1)).instances_wanted == 1


def test_a_pool_of_which_nobody_tells_anything_stays() -> None:
    assert Reactive().choose(pool(None, None)).instances_wanted == 2


def test_an_empty_pool_for_which_somebody_waits_grows() -> None:
    assert Reactive().choose(view(1.0, ready=0, wanted=0, memo=DUE)).instances_wanted == 1
    assert Reactive().choose(view(0.0, ready=0, wanted=0, memo=DUE)).instances_wanted == 0


@pytest.mark.parametrize("wrong", [{"in_below": 0.7}, {"step_s": 0.0}, {"wait_share": -1.0}])
def test_contradicting_parameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Reactive(**wrong)
