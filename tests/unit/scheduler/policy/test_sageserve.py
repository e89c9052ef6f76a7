from typing import Any

import numpy as np
import pytest

from forebay.core.values import SloClass
from forebay.scheduler.policy.router.base import Hold, RouteView
from forebay.scheduler.policy.router.join_shortest_tokens import JoinShortestTokens
from forebay.scheduler.policy.router.sageserve import SageServe
from tests.unit.scheduler.kit import S, frozen, route_view, routed

DEFERRED = SloClass.DEFERRED
REGIONS = ("east", "east", "west", "west")


def view(used: list[float], slo_class: SloClass = SloClass.INTERACTIVE_FAST, **changes: Any) -> RouteView:
    """Two instances in the east and two in the west, with room for 1,000 tokens each, seen from the west."""
    count = len(used)
    seen = route_view([1] * count, used=used, room=[1_000] * count, unseen_count=[0] * count)
    return seen._replace(regions=REGIONS[:count], region="west", slo_class=slo_class, **changes)


def region_of(router: SageServe, seen: RouteView) -> str:
    return seen.regions[routed(router, seen).index]


def test_the_first_region_on_the_list_with_room_gets_the_request() -> None:
    assert region_of(SageServe(), view([0.0, 0.0, 0.6, 0.7])) == "west"
    assert region_of(SageServe(), view([0.6, 0.6, 0.7, 0.7])) == "east"
    listed = SageServe(preferences={"west": ["north", "east"]})
    assert region_of(listed, view([0.6, 0.6, 0.0, 0.0])) == "east"


def test_where_no_region_has_room_the_least_full_one_gets_it() -> None:
    assert region_of(SageServe(), view([0.8, 0.8, 0.9, 0.9])) == "east"
    assert region_of(SageServe(), view([0.9, 0.9, 0.8, 0.8])) == "west"


def test_at_a_threshold_above_1_the_first_preference_gets_everything() -> None:
    assert region_of(SageServe(utilization_max=1.01), view([0.0, 0.0, 1.0, 1.0])) == "west"


def test_prompts_that_were_put_there_since_fill_a_region_as_well() -> None:
    # 0.65 of 2,000 tokens were seen in use; 100 more make 0.70.
    put = view([0.1, 0.1, 0.65, 0.65], unseen_prompt_tokens=frozen([0, 0, 50, 49]))
    assert region_of(SageServe(), put) == "west"
    assert region_of(SageServe(), put._replace(unseen_prompt_tokens=frozen([0, 0, 50, 50]))) == "east"


def test_a_region_without_an_instance_that_takes_requests_is_passed_over_and_what_loads_has_no_room_yet() -> None:
    closed = route_view([1, 1, 1, 1], closed=(2, 3), used=[0.9, 0.9, 0.0, 0.0])._replace(regions=REGIONS, region="west")
    assert region_of(SageServe(), closed) == "east"
    loading = route_view([1, 1, 1, 0], closed=(3,), used=[0.1, 0.1, 0.8, 0.0])._replace(regions=REGIONS, region="west")
    assert region_of(SageServe(), loading._replace(unseen_prompt_tokens=frozen([0] * 4))) == "east"


def test_inside_a_region_the_fewest_waiting_prompt_tokens_win() -> None:
    seen = view([0.0, 0.0, 0.1, 0.1], prompt_tokens_pending=frozen([0, 0, 50, 20]))
    assert routed(SageServe(), seen).index == 3


def test_without_deferred_work_and_in_one_region_it_is_join_shortest_tokens_without_lengths() -> None:
    generator = np.random.default_rng(5)
    plain = JoinShortestTokens(count_predicted=False)
    for _ in range(200):
        in_flight, pending = generator.integers(0, 9, 6), generator.integers(0, 900, 6)
        seen = route_view(in_flight.tolist(), prompt_tokens_pending=pending.tolist(), used=generator.random(6).tolist())
        assert routed(SageServe(), seen).index == routed(plain, seen).index


@pytest.mark.parametrize(
    ("used", "paper", "code"), [(0.65, [False] * 3, [False] * 3), (0.55, [True, False, False], [True, True, False]),
    (0.45, [True, True, False], [True, False, False])],
)  # fmt: skip
def test_idle_regions_get_one_or_two_deferred_requests_a_signal(
    used: float, paper: list[bool], code: list[bool]
) -> None:
    for is_reversed, expected in ((False, paper), (True, code)):
        router = SageServe(is_release_reversed=is_reversed)
        seen = [view([used] * 2, DEFERRED, released_count=frozen([0, released])) for released in (0, 1, 2)]
        assert [not isinstance(router.route(one), Hold) for one in seen] == expected


def test_a_held_request_speaks_for_its_class() -> None:
    assert SageServe().route(view([0.9, 0.9], DEFERRED)) == Hold("no region is idle enough for deferred work", True)


def test_deferred_work_goes_to_the_first_region_that_may_still_get_some() -> None:
    seen = view([0.2, 0.2, 0.55, 0.55], DEFERRED, released_count=frozen([0, 0, 0, 0]))
    assert region_of(SageServe(), seen) == "west"
    assert region_of(SageServe(), seen._replace(released_count=frozen([1, 0, 1, 0]))) == "east"


def test_deferred_work_that_waited_long_enough_is_routed_as_interactive() -> None:
    seen = view([0.9, 0.9], DEFERRED, arrived_us=0, now_us=10 * 3_600 * S)
    assert routed(SageServe(), seen).index == 0
    assert isinstance(SageServe().route(seen._replace(arrived_us=1)), Hold)
    assert isinstance(SageServe(promote_after_s=0).route(seen), Hold)


@pytest.mark.parametrize(
    "wrong", [{"release_two_below": 0.7}, {"utilization_max": -1}, {"preferences": {"east": "west"}}]
)
def test_it_refuses_what_makes_no_sense(wrong: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        SageServe(**wrong)
