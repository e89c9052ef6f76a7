from typing import Any

import pytest

from forebay.scheduler.policy.puller.base import UNLIMITED, Measured, PullView
from forebay.scheduler.policy.puller.saber import Saber, fitted, largest


def law(count: int, a: float = 0.02, b: float = 0.001, c: float = 0.00001) -> float:
    return a + b * (count - 1) + c * count * (count - 1)


def view(cap: int = 40, needed: float = 0.0, itls: tuple[tuple[int, float], ...] = (), **changes: Any) -> PullView:
    measured = Measured(cap, itls=itls, needed_tokens_per_s=needed) if itls else None
    return PullView("a", "m", 0, cap, cap=cap, measured=measured)._replace(**changes)


def seen(*counts: int) -> tuple[tuple[int, float], ...]:
    return tuple((count, law(count)) for count in counts)


def test_the_law_is_found_again_in_what_it_made() -> None:
    assert fitted(seen(2, 10, 40, 90)) == pytest.approx([0.02, 0.001, 0.00001])


def test_no_constant_of_the_law_is_negative() -> None:
    # Tokens that come faster under load would give more speed for ever.
    assert fitted([(2, 0.05), (10, 0.04), (40, 0.03)]).min() >= 0
    assert fitted([(2, 0.02), (10, 0.05), (40, 0.06)]).min() >= 0


def test_the_cap_is_the_load_at_which_each_is_just_fast_enough() -> None:
    # 0.1 s a token: 0.02 + 0.001 * (n - 1) + 0.00001 * n * (n - 1) is 0.0996 at 53 and 0.1017 at 54 requests.
    cap = Saber().cap(view(needed=10.0, itls=seen(2, 10, 40)))
    assert cap == 53
    assert law(cap) <= 0.1 < law(cap + 1)


def test_a_request_that_needs_more_speed_lowers_the_cap_for_all() -> None:
    caps = [Saber().cap(view(needed=needed, itls=seen(2, 10, 40))) for needed in (10, 20, 40)]
    assert caps == sorted(caps, reverse=True)
    assert len(set(caps)) == 3


def test_whoever_may_come_needs_a_speed_too() -> None:
    assert Saber(candidate_tokens_per_s=10).cap(view(needed=1.0, itls=seen(2, 10, 40))) == 53


def test_with_little_seen_the_time_between_tokens_grows_with_the_load() -> None:
    # 50 ms at 20 requests: 100 ms, which 10 tokens a second need, at 40.
    assert Saber().cap(view(cap=25, needed=10.0, itls=((20, 0.05),))) == 40


def test_the_cap_at_most_doubles_in_a_step_and_never_falls_below_one() -> None:
    assert Saber().cap(view(cap=16, needed=0.1, itls=seen(2, 10, 40))) == 32
    assert Saber().cap(view(needed=1_000.0, itls=seen(2, 10, 40))) == 1


def test_without_news_the_cap_stays_and_engine_and_cache_bound_it() -> None:
    assert Saber(start_count=9).cap(view(cap=0)) == 9
    assert Saber().cap(view(cap=33)) == 33
    assert Saber().cap(view(cap=33, concurrency_max=8)) == 8
    assert Saber().cap(view(cap=33, kv_count_max=5)) == 5


def test_an_instance_whose_speed_does_not_depend_on_the_load_has_no_bound() -> None:
    assert largest(fitted([(2, 0.05), (10, 0.05), (40, 0.05)]), 0.1) > 10_000
    assert largest(fitted([(1, 0.05), (1, 0.05), (1, 0.05)]), 0.04) == 0
    assert Saber().cap(view(cap=UNLIMITED, needed=10.0, itls=((2, 0.05), (10, 0.05), (40, 0.05)))) > 10_000


@pytest.mark.parametrize("parameters", [{"step_s": 0.0}, {"start_count": 0}, {"candidate_tokens_per_s": 0.0}])
def test_parameters_that_make_no_sense_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(parameters))):
        Saber(**parameters)
