from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from forebay.core.values import LengthQuantiles, SloClass
from forebay.scheduler.policy import KINDS
from forebay.scheduler.policy.router import ROUTERS
from forebay.scheduler.policy.router.base import Router, RouteView
from forebay.scheduler.policy.router.least_predicted_tokens import LeastPredictedTokens
from forebay.scheduler.policy.router.least_requests import LeastRequests
from forebay.scheduler.policy.router.power_of_two import PowerOfTwo
from forebay.scheduler.policy.router.round_robin import RoundRobin


def view(
    in_flight: list[int], tokens: list[int] | None = None, closed: tuple[int, ...] = (), turn: int = 0
) -> RouteView:
    count = len(in_flight)
    eligible = np.array([index not in closed for index in range(count)])
    made = RouteView(
        instance_ids=tuple(f"i{index}" for index in range(count)),
        in_flight_count=np.array(in_flight, dtype=np.int32),
        predicted_tokens=np.array(tokens or [0] * count, dtype=np.int64),
        concurrency_cap=np.full(count, 100, dtype=np.int32),
        eligible=eligible,
        turn_index=turn,
        prompt_tokens=10,
        predicted_length=LengthQuantiles(1, 2, 3, 4),
        slo_class=SloClass.INTERACTIVE_NORMAL,
    )
    for array in (made.in_flight_count, made.predicted_tokens, made.concurrency_cap, made.eligible):
        array.flags.writeable = False
    return made


def test_round_robin_takes_each_in_turn_and_starts_over() -> None:
    assert [RoundRobin().route(view([5, 0, 9], turn=turn)).index for turn in (0, 1, 2, 0)] == [0, 1, 2, 0]


def test_round_robin_passes_over_what_is_closed() -> None:
    assert RoundRobin().route(view([0, 0, 0, 0], closed=(2, 3), turn=2)).index == 0


def test_least_requests_takes_the_emptiest() -> None:
    assert LeastRequests().route(view([3, 1, 2])).index == 1


def test_least_requests_does_not_see_tokens() -> None:
    assert LeastRequests().route(view([1, 2], tokens=[900, 1])).index == 0


def test_least_predicted_tokens_takes_the_one_with_the_least_left_to_generate() -> None:
    assert LeastPredictedTokens().route(view([1, 9, 1], tokens=[900, 20, 30])).index == 1


def test_power_of_two_never_takes_the_fullest_of_three() -> None:
    router = PowerOfTwo(seed=7)
    assert Counter(router.route(view([4, 5, 6])).index for _ in range(300)).keys() == {0, 1}


def test_power_of_two_draws_every_pair_equally_often() -> None:
    router = PowerOfTwo(seed=7)
    pairs = Counter(router.route(view([0, 0, 0, 0])).drawn for _ in range(6_000))
    assert len(pairs) == 6
    # 1,000 each are expected with a standard deviation of 29.
    assert all(850 < count < 1_150 for count in pairs.values())


def test_power_of_two_takes_the_only_one_that_is_left() -> None:
    route = PowerOfTwo(seed=7).route(view([0, 0, 0], closed=(0, 2)))
    assert (route.index, route.drawn) == (1, (1,))


def test_power_of_two_repeats_itself_with_the_same_seed_and_not_with_another() -> None:
    runs = [[router.route(view([0] * 9)).index for _ in range(50)] for router in map(PowerOfTwo, (1, 1, 2))]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("name", ROUTERS)
def test_every_router_settles_ties_by_the_smallest_id(name: str) -> None:
    router: Router = ROUTERS[name]()
    route = router.route(view([2, 2, 2], tokens=[7, 7, 7], closed=(0,)))
    assert route.index == min(route.drawn or (1, 2))


@pytest.mark.parametrize("name", ROUTERS)
def test_every_router_gives_the_lowest_eligible_score_the_win(name: str) -> None:
    router: Router = ROUTERS[name]()
    generator = np.random.default_rng(11)
    for _ in range(200):
        count = int(generator.integers(1, 12))
        in_flight, tokens = generator.integers(0, 4, count).tolist(), generator.integers(0, 9, count).tolist()
        closed = tuple(np.flatnonzero(generator.random(count) < 0.4).tolist())
        if len(closed) == count:
            closed = closed[1:]
        seen = view(in_flight, tokens, closed, int(generator.integers(0, count)))
        route = router.route(seen)
        compared = route.drawn or tuple(np.flatnonzero(seen.eligible).tolist())
        assert set(compared) <= set(np.flatnonzero(seen.eligible).tolist())
        assert route.index == min(compared, key=lambda index: (route.scores[index], index))


@pytest.mark.parametrize("name", ROUTERS)
def test_no_router_takes_a_closed_instance_however_good_it_looks(name: str) -> None:
    router: Router = ROUTERS[name]()
    assert all(router.route(view([0, 50], [0, 50], closed=(0,), turn=turn)).index == 1 for turn in (0, 1) * 20)


def test_scores_are_the_inputs_that_they_are_named_after() -> None:
    seen = view([3, 1], tokens=[5, 8])
    assert LeastRequests().route(seen).score_input == "in_flight_count"
    assert LeastPredictedTokens().route(seen).score_input == "predicted_tokens"
    assert RoundRobin().route(replace(seen, turn_index=1)).scores.tolist() == [1, 0]


def test_every_kind_names_its_policies_once() -> None:
    for policies in KINDS.values():
        assert len(set(policies.values())) == len(policies)
