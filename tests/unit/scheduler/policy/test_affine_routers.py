"""Routers that keep sessions and prompts where they are known."""

import math
from typing import Any

import numpy as np
import pytest

from forebay.scheduler.policy.router import ROUTERS
from forebay.scheduler.policy.router.aibrix_vtc import AibrixVtc
from forebay.scheduler.policy.router.autellix import Autellix
from forebay.scheduler.policy.router.base import RouteView
from forebay.scheduler.policy.router.dynamo_kv import DynamoKv
from forebay.scheduler.policy.router.llm_d import LlmD
from forebay.scheduler.policy.router.prefix_affinity import PrefixAffinity
from forebay.scheduler.policy.router.session_affinity import SessionAffinity
from tests.unit.scheduler.kit import frozen, route_view, routed


def view(in_flight: list[int], closed: tuple[int, ...] = (), **counts: list[int]) -> RouteView:
    return route_view(in_flight, closed, **counts)


def test_a_session_stays_at_home_until_home_has_too_much() -> None:
    assert routed(SessionAffinity(), view([4, 3, 5])._replace(home=0)).index == 0
    assert routed(SessionAffinity(), view([9, 3, 3])._replace(home=0)).index == 1
    assert routed(SessionAffinity(load_factor=math.inf), view([9, 3, 3])._replace(home=0)).index == 0
    assert routed(SessionAffinity(), view([4, 3, 5])).index == 1


def test_a_session_whose_home_is_closed_goes_elsewhere() -> None:
    assert routed(SessionAffinity(), view([0, 3, 5], closed=(0,))._replace(home=0)).index == 1


def test_a_load_factor_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="load_factor must be at least 1"):
        SessionAffinity(load_factor=0.9)


def test_prefix_affinity_follows_the_match_while_the_load_is_even() -> None:
    matched = frozen([0, 8, 0])
    assert routed(PrefixAffinity(), view([4, 30, 5])._replace(prefix_tokens=matched)).index == 1
    assert routed(PrefixAffinity(), view([4, 40, 5])._replace(prefix_tokens=matched)).index == 0
    assert routed(PrefixAffinity(match_min=1.0), view([4, 30, 5])._replace(prefix_tokens=matched)).index == 0


def test_prefix_affinity_without_a_match_takes_the_least_in_the_cache() -> None:
    seen = view([1, 1], prompt_tokens_in_flight=[500, 400])
    assert routed(PrefixAffinity(), seen).index == 1
    assert routed(PrefixAffinity(), seen._replace(prefix_tokens=frozen([5, 3]))).index == 1


def test_dynamo_counts_blocks_to_prefill_and_blocks_that_decode() -> None:
    seen = view([1, 1], prompt_tokens_in_flight=[320, 160], prompt_tokens_pending=[0, 160])._replace(prompt_tokens=160)
    # i0: 10 to prefill, 20 + 10 that decode; i1: 10 + 10 to prefill, 0 + 10 that decode.
    assert routed(DynamoKv(), seen).scores.tolist() == [40.0, 30.0]
    overlap = seen._replace(prefix_tokens=frozen([160, 0]))
    assert routed(DynamoKv(), overlap).scores.tolist() == [30.0, 30.0]
    assert routed(DynamoKv(prefill_load_scale=0.0), seen).scores.tolist() == [30.0, 10.0]


def test_llm_d_prefers_who_has_the_prompt_in_its_cache() -> None:
    seen = route_view([1, 1], waiting=[1, 0], used=[0.5, 0.5])._replace(prefix_tokens=frozen([10, 0]))
    assert routed(LlmD(count_unseen=False), seen).index == 0
    assert routed(LlmD(count_unseen=False, prefix_weight=0.0), seen).index == 1


def test_autellix_pins_long_calls_only() -> None:
    seen = view([1, 1], predicted_tokens=[900, 20])._replace(home=0)
    assert routed(Autellix(), seen._replace(prompt_tokens=2_049)).index == 0
    assert routed(Autellix(), seen._replace(prompt_tokens=2_048)).index == 1
    assert routed(Autellix(), seen._replace(prompt_tokens=2_049, home=-1)).index == 1


@pytest.mark.parametrize("name", ["aibrix_vtc", "autellix", "dynamo_kv", "llm_d", "session_affinity"])
def test_terms_add_up_to_the_score(name: str) -> None:
    seen = view([4, 3, 5], predicted_tokens=[7, 8, 9])._replace(home=1, prompt_tokens=3_000)
    route = routed(ROUTERS[name](), seen._replace(prefix_tokens=frozen([0, 5, 10])))
    assert route.terms
    assert np.allclose(np.sum([term.weight * term.values for term in route.terms], axis=0), route.scores)


def test_aibrix_sends_a_tenant_where_its_tokens_point() -> None:
    seen = view([0, 0, 0])
    router = AibrixVtc(jitter=0.0)
    assert [routed(router, seen._replace(tenant_service=tokens)).index for tokens in (0, 90, 190, 310)] == [0, 1, 2, 0]


def test_aibrix_without_fairness_is_least_requests_but_for_its_draw() -> None:
    assert routed(AibrixVtc(fairness_weight=0.0, jitter=0.0), view([9, 5, 7])._replace(tenant_service=250)).index == 1
    chosen = {
        routed(router, view([1, 1])).index for router in [AibrixVtc(fairness_weight=0.0, seed=3)] for _ in range(50)
    }
    assert chosen == {0, 1}


@pytest.mark.parametrize(
    "name", ["aibrix_vtc", "autellix", "chiron", "dynamo_kv", "llm_d", "qlm", "sageserve", "session_affinity"]
)
def test_terms_are_told_in_words_and_units(name: str) -> None:
    route = routed(ROUTERS[name](), view([4, 3, 5])._replace(home=1))
    assert [one for one in route.terms if "_" in one.name or not one.unit] == []
    assert route.terms


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("aibrix_vtc", {"load_max": 0.0}),
        ("autellix", {"short_tokens": -1}),
        ("prefix_affinity", {"match_min": 1.5}),
        ("prefix_affinity", {"uneven_count": -1}),
    ],
)
def test_what_has_no_meaning_is_refused(name: str, parameters: dict[str, Any]) -> None:
    router: Any = ROUTERS[name]
    with pytest.raises(ValueError, match=next(iter(parameters))):
        router(**parameters)
