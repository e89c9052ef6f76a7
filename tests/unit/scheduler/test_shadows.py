"""Shadows: policies that are asked beside the active ones."""

import pytest

from forebay.core.errors import ConfigError
from forebay.core.scheduling import Placement, ShadowCost, ShadowStatus
from forebay.core.values import LengthPrediction, LengthQuantiles, Outcome
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from forebay.scheduler.policy import build
from tests.unit.scheduler.kit import S, engine, instance, request


def prediction(tokens: int) -> LengthPrediction:
    return LengthPrediction(LengthQuantiles(tokens, tokens, tokens, tokens), 0.0, float(tokens), "test@1")


def send(on: Engine, name: str, tokens: int, now_us: int = 0, prompt: int = 10) -> list[Placement]:
    actions = on.on_arrive(request(name, prompt=prompt), prediction(tokens), now_us, "g")
    return [action for action in actions if isinstance(action, Placement)]


def only(on: Engine) -> ShadowStatus:
    (shadow,) = on.shadows()
    return shadow


def test_a_shadow_that_agrees_costs_nothing() -> None:
    on = engine(instance("a"), instance("b"), router="least_requests", shadows={"same": {"router": "least_requests"}})
    for number in range(4):
        send(on, f"r{number}", 10)
    (row,) = only(on).rows
    assert (row.kind, row.model, row.compared_count, row.different_count) == ("router", "m", 4, 0)
    assert [cost.mean for cost in row.costs] == [0.0, 0.0]


def test_a_router_that_differs_tells_the_work_that_it_would_have_put_ahead() -> None:
    on = engine(
        instance("a"),
        instance("b"),
        router="least_requests",
        shadows={"by tokens": {"router": "least_predicted_tokens"}},
    )
    send(on, "r0", 500)  # to a
    send(on, "r1", 10)  # to b
    send(on, "r2", 10)  # least requests: a, which has 500 tokens ahead; by tokens: b, which has 10
    (row,) = only(on).rows
    assert (row.compared_count, row.different_count) == (3, 1)
    assert (row.costs[0].name, row.costs[0].unit) == ("work ahead of the request", "tokens")
    assert row.costs[0].mean == pytest.approx((10 - 500) / 3)


def test_a_decision_tells_where_its_shadows_would_have_gone() -> None:
    on = engine(
        instance("a"),
        instance("b"),
        router="least_requests",
        shadows={"by tokens": {"router": "least_predicted_tokens"}},
    )
    send(on, "r0", 500)
    send(on, "r1", 10)
    (placed,) = send(on, "r2", 10)
    assert on.explain(placed.decision_id).instance_id == "a/m"
    assert on.explain(placed.decision_id).shadows == {"by tokens": "b/m"}


def test_an_orderer_that_differs_tells_who_would_have_gone_first() -> None:
    on = engine(instance("a", concurrency_max=1), orderer="fcfs", shadows={"short": {"orderer": "shortest_predicted"}})
    (first,) = send(on, "r0", 10)
    send(on, "long", 300, now_us=1 * S)
    send(on, "short", 20, now_us=3 * S)
    on.on_finish(first.lease_id, Outcome.STOPPED, 10, 4 * S)
    (row,) = only(on).rows
    assert (row.kind, row.compared_count, row.different_count) == ("orderer", 1, 1)
    assert [cost.mean for cost in row.costs] == [20 - 300, 2.0]


def test_an_admission_that_differs_tells_how_many_more_it_would_have_refused() -> None:
    strict = {"admission": "token_budget", "admission_parameters": {"tokens_max": 100}}
    on = engine(instance("a"), shadows={"strict": strict})
    send(on, "r0", 90)
    send(on, "r1", 90)
    (row,) = only(on).rows
    assert (row.kind, row.compared_count, row.different_count) == ("admission", 2, 1)
    assert row.costs == (ShadowCost("refused", "share", 0.5),)


def test_shadows_change_no_answer() -> None:
    loads = [(f"r{number}", (number * 37) % 90 + 1) for number in range(40)]
    shadows = {"p2c": {"router": "power_of_two"}, "short": {"orderer": "shortest_predicted"}}
    plain, watched = (
        engine(*(instance(name, concurrency_max=4) for name in "abc"), shadows=told) for told in ({}, shadows)
    )
    for name, tokens in loads:
        assert send(plain, name, tokens) == send(watched, name, tokens)


def test_only_what_a_shadow_names_is_compared() -> None:
    policies = build(Config(shadows={"all": {"system": "default", "router": "round_robin"}}))
    assert policies.shadows["all"].names == {"router": "round_robin"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "names no policy"),
        ({"router": "nobody"}, "unknown router 'nobody' in \\[scheduler.shadows.x\\]"),
        ({"rooter": "least_kv"}, "did you mean 'router'"),
        ("least_kv", "must be a table"),
        ({"system": "nobody"}, "unknown system 'nobody'"),
    ],
)
def test_a_shadow_that_cannot_be_is_refused_with_its_name(table: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(Config(shadows={"x": table}))
