from collections import Counter

import numpy as np
import pytest

from forebay.scheduler.policy import KINDS
from forebay.scheduler.policy.router import ROUTERS
from forebay.scheduler.policy.router.base import Router, RouteView
from forebay.scheduler.policy.router.join_shortest_tokens import JoinShortestTokens
from forebay.scheduler.policy.router.least_kv import LeastKv
from forebay.scheduler.policy.router.least_predicted_tokens import LeastPredictedTokens
from forebay.scheduler.policy.router.least_requests import LeastRequests
from forebay.scheduler.policy.router.llm_d import LlmD
from forebay.scheduler.policy.router.power_of_two import PowerOfTwo
from forebay.scheduler.policy.router.round_robin import RoundRobin
from tests.unit.scheduler.kit import frozen, route_view, routed


def view(
    in_flight: list[int], tokens: list[int] | None = None, closed: tuple[int, ...] = (), turn: int = 0
) -> RouteView:
    return route_view(in_flight, closed, turn, predicted_tokens=tokens or [0] * len(in_flight))


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
    route = routed(router, view([2, 2, 2], tokens=[7, 7, 7], closed=(0,)))
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
        route = routed(router, seen)
        compared = route.drawn or tuple(np.flatnonzero(seen.eligible).tolist())
        assert set(compared) <= set(np.flatnonzero(seen.eligible).tolist())
        assert route.index == min(compared, key=lambda index: (route.scores[index], index))


@pytest.mark.parametrize("name", ROUTERS)
def test_no_router_takes_a_closed_instance_however_good_it_looks(name: str) -> None:
    router: Router = ROUTERS[name]()
    assert all(routed(router, view([0, 50], [0, 50], closed=(0,), turn=turn)).index == 1 for turn in (0, 1) * 20)


def test_scores_are_the_inputs_that_they_are_named_after() -> None:
    seen = view([3, 1], tokens=[5, 8])
    assert LeastRequests().route(seen).score_input == "in_flight_count"
    assert LeastPredictedTokens().route(seen).score_input == "predicted_tokens"
    assert RoundRobin().route(seen._replace(turn_index=1)).scores.tolist() == [1, 0]


def test_every_kind_names_its_policies_once() -> None:
    for policies in KINDS.values():
        assert len(set(policies.values())) == len(policies)


def test_join_shortest_tokens_counts_prompts_that_are_not_begun_and_answers_that_are_not_ended() -> None:
    seen = route_view([1, 1, 1], predicted_tokens=[100, 90, 10], prompt_tokens_pending=[0, 5, 500])
    route = JoinShortestTokens().route(seen)
    assert (route.index, route.scores.tolist(), route.score_input) == (1, [100, 95, 510], "queued_tokens")
    assert LeastPredictedTokens().route(seen).index == 2


def test_join_shortest_tokens_can_do_without_lengths() -> None:
    seen = route_view([4, 1], predicted_tokens=[0, 900], prompt_tokens_pending=[20, 22])
    assert JoinShortestTokens(count_predicted=False).route(seen).scores.tolist() == [24, 23]


def test_least_kv_adds_what_was_put_there_since_it_looked() -> None:
    seen = route_view([3, 3], used=[0.5, 0.3], room=[1_000, 2_000], unseen_prompt_tokens=[0, 300])
    assert LeastKv().route(seen).index == 1
    fuller = seen._replace(unseen_prompt_tokens=frozen([0, 500]))
    assert LeastKv().route(fuller).scores.tolist() == [0.5, 0.55]
    assert LeastKv().route(fuller).index == 0


def test_least_kv_goes_by_its_own_account_where_nobody_tells() -> None:
    assert LeastKv().route(route_view([1, 1], unseen_prompt_tokens=[70, 60])).index == 1


def test_llm_d_weighs_queue_and_cache() -> None:
    seen = route_view([0, 0, 0], waiting=[10, 0, 5], used=[0.0, 0.9, 0.3])
    route = LlmD().route(seen)
    assert (route.index, route.scores.tolist()) == (2, [2.0, 1.8, 1.6])
    assert LlmD(queue_weight=0).route(seen).index == 0
    assert LlmD(kv_weight=0).route(seen).index == 1


def test_llm_d_compares_queues_among_the_eligible_only() -> None:
    seen = route_view([0, 0, 0], closed=(0,), waiting=[1_000, 4, 2], used=[0.1, 0.1, 0.9])
    assert LlmD().route(seen).scores.tolist()[1:] == [2.2, 1.8]
    assert LlmD().route(route_view([0, 0], waiting=[3, 3], used=[0.2, 0.1])).scores.tolist() == [0.4, 0.2]


def test_llm_d_herds_between_sights_only_if_told_to() -> None:
    seen = route_view([5, 0], waiting=[0, 1], used=[0.1, 0.1], unseen_count=[5, 0])
    assert LlmD().route(seen).index == 1
    assert LlmD(count_unseen=False).route(seen).index == 0


@pytest.mark.parametrize("weights", [{"queue_weight": -1.0}, {"kv_weight": -0.1}])
def test_llm_d_refuses_negative_weights(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        LlmD(**weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ROUTERS)
def test_every_router_names_its_score_so_that_a_flip_can_be_told(name: str) -> None:
    route = routed(ROUTERS[name](), view([1, 2]))
    assert route.score_input or route.terms
