"""Routers that ask what is expected of each instance, on cases computed by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forebay.core.errors import ConfigError
from forebay.core.values import LengthQuantiles, SloClass
from forebay.scheduler.policy.router.base import UNCALIBRATED, Calibration, Hold, Route, RouteView
from forebay.scheduler.policy.router.forebay import Forebay
from forebay.scheduler.policy.router.least_anticipated_peak import LeastAnticipatedPeak
from forebay.scheduler.policy.router.llumnix import Llumnix
from forebay.scheduler.policy.router.maps import Maps
from forebay.scheduler.policy.router.preserve_artifact import PreserveArtifact
from forebay.scheduler.policy.router.preserve_paper import PreservePaper
from tests.unit.scheduler.kit import lease, route_view, routed

LONG_ANSWER = lease("a", prompt=100, median=400, generated=1)
LONG_PROMPT = lease("b", prompt=450, median=30, generated=1)


def view(**changes: Any) -> RouteView:
    """Two instances: one works on a long answer to a short prompt, the other the other way round."""
    pending = changes.pop("prompt_tokens_pending", [0, 0])
    rooms = changes.pop("room", [1_000, 1_000])
    leases = changes.pop("leases", [[LONG_ANSWER], [LONG_PROMPT]])
    made = route_view([len(one) for one in leases], room=rooms, prompt_tokens_pending=pending, leases=leases)
    return made._replace(prompt_tokens=50, predicted_length=LengthQuantiles(50, 100, 200, 300), **changes)


def terms_sum(route: Route) -> list[float]:
    return [float(sum(one)) for one in zip(*(term.weight * term.values for term in route.terms), strict=True)]


def test_the_artifact_of_preserve_counts_waiting_prompts_twice_and_whole_footprints() -> None:
    route = routed(PreserveArtifact(), view(prompt_tokens_pending=[0, 20]))
    assert route.scores.tolist() == [100 + 400, 2 * 20 + 450 + 30]
    assert route.index == 0
    assert terms_sum(route) == route.scores.tolist()


def test_the_artifact_of_preserve_counts_thirty_tokens_more_once_an_answer_is_ten_past_its_end() -> None:
    late = replace(LONG_PROMPT, generated_tokens=40)
    assert routed(PreserveArtifact(), view(leases=[[], [late]])).scores.tolist() == [0, 450 + 30 + 30]


def test_the_paper_of_preserve_is_the_artifact_s_score_until_a_peak_overflows() -> None:
    plain = routed(PreservePaper(), view())
    weighted = routed(PreservePaper(overflow_weight=1.0, theta=0.5), view())
    assert plain.scores.tolist() == [500, 480]
    # The 99 iterations in which the new request is there: 101 + 99 and 50 + 99, against half of the cache.
    assert weighted.scores.tolist() == [500, 480 + (451 + 28 + 50 + 28 - 500)]
    assert terms_sum(weighted) == weighted.scores.tolist()
    assert (plain.index, weighted.index) == (1, 0)


def test_the_paper_of_preserve_extends_an_overrun_by_a_fifth() -> None:
    late = replace(LONG_PROMPT, generated_tokens=30)
    assert routed(PreservePaper(), view(leases=[[], [late]])).scores.tolist() == [0, 450 + 30 + 6]


def test_the_least_anticipated_peak_looks_at_how_full_a_cache_becomes_not_at_what_it_holds() -> None:
    route = routed(LeastAnticipatedPeak(horizon=1_000), view(room=[1_000, 2_000]))
    # Expected are 484 and 36 tokens: 35 iterations from now the second ends, beside the request.
    assert route.scores.tolist() == [(100 + 483) / 1_000, (450 + 35 + 50 + 34) / 2_000]
    assert route.index == 1


def test_llumnix_takes_the_instance_whose_requests_can_go_the_most_steps() -> None:
    route = routed(Llumnix(), view())
    assert (-route.scores).tolist() == [1_000 - 101, 1_000 - 451]
    crowded = [[LONG_ANSWER, lease("c", 10, 10, 1)], [LONG_PROMPT]]
    assert (-routed(Llumnix(), view(leases=crowded)).scores).tolist() == [(1_000 - 101 - 11) / 2, 549]


def test_llumnix_finds_an_idle_instance_freer_than_any_other() -> None:
    route = routed(Llumnix(), view(leases=[[], [lease("c", 0, 10, 1)]]))
    assert (-route.scores).tolist() == [2_000, 999]


def test_maps_takes_the_shortest_queue_of_those_whose_reservations_leave_room_for_the_bound() -> None:
    calibration = Calibration(500, 80, 0.9, 1.0)
    crowded = [[lease(name, 10, 10, 1) for name in "pqr"], [LONG_PROMPT]]
    # Needed: 50 + 100 + 80. The second has 1,000 - 450 - 30 - 80 left, the first 1,000 - 3 * (10 + 10 + 80).
    assert routed(Maps(), view(leases=crowded, calibration=calibration)).index == 1
    tight = view(leases=crowded, calibration=calibration, room=[1_000, 789])
    assert routed(Maps(), tight).scores.tolist() == [3, 1 + 1_000 * 1]
    assert routed(Maps(), tight).index == 0


def test_maps_takes_the_freest_where_nothing_fits_and_the_predicted_bound_while_it_knows_no_outcomes() -> None:
    route = routed(Maps(), view(room=[600, 300]))
    # Bound 200: needed 250, reserved 600 and 580.
    assert route.scores.tolist() == [1 + 1_000 * (600 + 250 - 600), 1 + 1_000 * (580 + 250 - 300)]


def test_forebay_goes_where_the_least_is_to_do() -> None:
    route = routed(Forebay(), view(room=[10_000, 10_000]))
    assert route.scores.tolist() == [100 + 400, 450 + 30]
    assert route.index == 1
    assert terms_sum(route) == route.scores.tolist()


def test_forebay_passes_over_an_instance_whose_predicted_peak_overflows_even_if_it_has_less_to_do() -> None:
    # With the new request the second peaks just before its own end, at some 450 + 34 and 50 + 34.
    assert routed(Forebay(room_share_fast=1.0), view(room=[2_000, 540])).index == 0


def test_forebay_takes_what_fits_even_where_there_is_far_more_to_do_than_where_it_just_does_not() -> None:
    busy = [lease(f"d{number}", 4_000, 400, 1) for number in range(5)]
    seen = view(leases=[[lease("c", 10, 10, 1)], busy], room=[(50 + 199) / 0.95 - 0.1, 100_000])
    assert routed(Forebay(), seen).index == 1


def test_forebay_by_medians_counts_a_long_tail_for_less_while_an_answer_is_young() -> None:
    long_tail = lease("a", 50, 40)
    long_tail.placement = replace(long_tail.placement, predicted=LengthQuantiles(20, 40, 400, 800))
    seen = view(leases=[[long_tail]], room=[350], prompt_tokens_pending=[0])
    assert isinstance(Forebay(horizon=400, expected="mean").route(seen), Hold)
    assert not isinstance(Forebay(horizon=400).route(seen), Hold)
    with pytest.raises(ValueError, match="mean, median"):
        Forebay(expected="mode")


def test_forebay_holds_what_overflows_everywhere_and_says_by_how_much() -> None:
    route = Forebay().route(view(room=[400, 400]))
    assert isinstance(route, Hold)
    assert "tokens over" in route.reason


def test_forebay_leaves_more_room_the_later_a_class_is_owed_its_first_token() -> None:
    # Alone at its end, at its p90 of 200, it holds 50 + 199.
    def fits(slo_class: SloClass, room: int) -> bool:
        there = [[lease("c", 10, 10, 1)], [lease("d", 10, 10, 1)]]
        return isinstance(Forebay().route(view(leases=there, room=[room, room], slo_class=slo_class)), Route)

    peak = 50 + 199
    smallest = {one: next(room for room in range(peak, 1_000) if fits(one, room)) for one in SloClass}
    assert [peak / smallest[one] for one in SloClass] == pytest.approx([0.95, 0.90, 0.65], abs=0.005)


def test_forebay_tries_no_younger_deferred_work_once_some_does_not_fit() -> None:
    held = [Forebay().route(view(room=[400, 400], slo_class=one)) for one in SloClass]
    assert [isinstance(one, Hold) and one.is_for_class for one in held] == [False, False, True]


def test_forebay_gives_an_idle_instance_whatever_fits_nowhere() -> None:
    huge = view(leases=[[LONG_ANSWER], []], room=[400, 40])
    assert routed(Forebay(), huge).index == 1


def test_forebay_without_a_limit_of_room_never_holds() -> None:
    assert routed(Forebay(room_share_fast=10.0), view(room=[400, 400])).index == 1


@pytest.mark.parametrize(("count", "overstatement", "believes"), [(100, 2.1, False), (99, 2.1, True), (500, 1.9, True)])
def test_forebay_takes_the_fewest_requests_while_lengths_are_much_overstated(
    count: int, overstatement: float, believes: bool
) -> None:
    crowded = [[lease("c", 10, 10, 1), lease("d", 10, 10, 1)], [LONG_PROMPT]]
    route = Forebay().route(
        view(leases=crowded, calibration=Calibration(count, 0, 1.0, overstatement), room=[900, 500])
    )
    assert isinstance(route, Route)
    assert route.index == (0 if believes else 1)
    assert (route.score_input == "in_flight_count") is not believes


@pytest.mark.parametrize("router", [Forebay(), Llumnix(), Maps(), PreserveArtifact(), PreservePaper()])
def test_a_router_that_asks_says_so_where_nobody_follows_the_load(router: Any) -> None:
    with pytest.raises(ConfigError, match="direct = false"):
        router.route(view()._replace(anticipated=None))


@pytest.mark.parametrize("made", [PreservePaper, LeastAnticipatedPeak, Forebay])
def test_a_horizon_is_at_least_one_iteration(made: Any) -> None:
    with pytest.raises(ValueError, match="horizon"):
        made(horizon=0)


def test_scores_are_new_arrays_each_time() -> None:
    seen = view()
    first = routed(Forebay(), seen).scores
    first += 1
    assert not np.array_equal(first, routed(Forebay(), seen).scores)
    assert seen.calibration is UNCALIBRATED
