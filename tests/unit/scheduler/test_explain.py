from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.scheduling import Flip, Verdict
from forebay.core.values import LengthQuantiles, ScoreTerm, SloClass
from forebay.scheduler.decisions import BYTES_EACH, Counts, Record, Records, Sight
from forebay.scheduler.explain import explain, flip
from forebay.scheduler.lanes import COUNTED, Standing
from forebay.scheduler.policy.router import ROUTERS
from forebay.scheduler.policy.router.base import Route, Router, RouteView, Term
from forebay.scheduler.policy.router.least_predicted_tokens import LeastPredictedTokens
from forebay.scheduler.policy.router.least_requests import LeastRequests
from forebay.scheduler.policy.router.power_of_two import PowerOfTwo
from tests.unit.scheduler.kit import route_view, routed

POLICIES = {"router": "least_requests"}


def sight(in_flight: list[int], tokens: list[int] | None = None, cap: int = 100, closed: tuple[int, ...] = ()) -> Sight:
    count = len(in_flight)
    blocked = tuple("draining" if index in closed else "" for index in range(count))
    view = route_view(in_flight, closed, caps=[cap] * count, predicted_tokens=tokens or [0] * count)
    return seen_as(view, blocked)


def seen_as(view: RouteView, blocked: tuple[str, ...]) -> Sight:
    contexts = np.full(len(blocked), 1_000)
    standing = Standing(view.instance_ids, blocked, contexts, view.concurrency_cap, view.observed, (), ())
    return Sight(standing, view.eligible, np.array([getattr(view, name) for name in COUNTED]), frozenset(), 11)


def view_of(seen: Sight) -> RouteView:
    """What a router sees of a sight."""
    columns = dict(zip(COUNTED, seen.counts, strict=True))
    made = route_view(seen.counts[0].tolist(), caps=seen.standing.concurrency_cap.tolist())
    return made._replace(eligible=seen.eligible, eligible_count=int(seen.eligible.sum()), **columns)


def with_counts(seen: Sight, **columns: Any) -> Sight:
    """The same sight with other columns, and the eligible ones told anew."""
    view = view_of(seen)._replace(**columns)
    return seen_as(view._replace(eligible=view.in_flight_count < view.concurrency_cap), seen.standing.blocked)


def record(seen: Sight | None, route: Route | None, name: str = "d1", text: str = "") -> Record:
    verdict = Verdict.PLACED if route else Verdict.RETRY
    return Record(
        name, "r1", "m", 5, verdict, 10, 0, SloClass.INTERACTIVE_FAST, 0, Counts(3, 4),
        LengthQuantiles(1, 2, 3, 4), "test@1", seen, route, text,
    )  # fmt: skip


def test_candidates_stand_best_first_with_what_the_score_is_made_of() -> None:
    seen = sight([3, 1, 2, 0], tokens=[5, 6, 7, 8], closed=(3,))
    decision = explain(record(seen, LeastRequests().route(view_of(seen))), POLICIES)
    assert [(one.instance_id, one.score, one.eligible) for one in decision.candidates] == [
        ("i1", 1.0, True),
        ("i2", 2.0, True),
        ("i0", 3.0, True),
        ("i3", 0.0, False),
    ]
    inputs = decision.candidates[0].inputs
    assert (inputs["in_flight_count"], inputs["predicted_tokens"], inputs["concurrency_cap"]) == (1.0, 6.0, 100.0)
    assert decision.instance_id == "i1"
    assert decision.inputs["held_count"] == 3.0


def test_every_instance_that_could_not_win_says_why() -> None:
    seen = sight([0, 2, 0, 0, 0], cap=2, closed=(0,))
    contexts = np.array([1_000, 1_000, 1_000, 5, 1_000])
    eligible = np.array([False, False, False, False, True])
    standing = seen.standing._replace(contexts=contexts)
    seen = seen._replace(standing=standing, excluded=frozenset({"i2"}), eligible=eligible)
    decision = explain(record(seen, LeastRequests().route(view_of(seen))), POLICIES)
    assert {one.instance_id: one.reason for one in decision.candidates} == {
        "i0": "draining",
        "i1": "full",
        "i2": "excluded",
        "i3": "context too short",
        "i4": "",
    }
    assert decision.flip is None


def test_what_was_not_drawn_could_not_win() -> None:
    seen = sight([5, 4, 3, 2])
    route = Route(1, seen.counts[0], "in_flight_count", (0, 1))
    decision = explain(record(seen, route), POLICIES)
    assert [(one.instance_id, one.reason) for one in decision.candidates] == [
        ("i1", ""),
        ("i0", ""),
        ("i3", "not drawn"),
        ("i2", "not drawn"),
    ]
    assert decision.flip == Flip("i0", "in_flight_count", 4.0, 5.0)


def test_the_sentence_names_the_winner_and_the_runner_up() -> None:
    seen = sight([3, 1, 2])
    text = explain(record(seen, LeastRequests().route(view_of(seen))), POLICIES).reason
    assert text == (
        "least_requests chose i1: its score 1 is the lowest of 3 compared among 3 instances of m; next is i2 with 2."
    )


def test_a_refusal_tells_its_reason_and_what_was_seen() -> None:
    decision = explain(record(sight([2, 2], cap=2), None, text="HELD_TOO_LONG: wait"), POLICIES)
    assert (decision.verdict, decision.instance_id, decision.reason) == (Verdict.RETRY, "", "HELD_TOO_LONG: wait")
    assert [one.reason for one in decision.candidates] == ["full", "full"]


@pytest.mark.parametrize(
    ("in_flight", "cap", "expected"),
    [
        ([1, 3], 100, Flip("i1", "in_flight_count", 1.0, 4.0)),
        ([3, 1], 100, Flip("i0", "in_flight_count", 1.0, 3.0)),
        ([1, 9], 5, None),
        ([1, 4], 3, None),
        ([1, 2], 3, Flip("i1", "in_flight_count", 1.0, 3.0)),
        ([0], 100, None),
    ],
)
def test_the_flip_counts_ties_and_caps(in_flight: list[int], cap: int, expected: Flip | None) -> None:
    seen = sight(in_flight, cap=cap)
    assert flip(seen, LeastRequests().route(view_of(seen))) == expected


def test_a_winner_that_is_full_earlier_flips_earlier() -> None:
    seen = with_counts(sight([1, 9]), concurrency_cap=np.array([3, 100], dtype=np.int32))
    assert flip(seen, LeastRequests().route(view_of(seen))) == Flip("i1", "in_flight_count", 1.0, 3.0)


def test_a_mixture_of_inputs_has_no_flip() -> None:
    seen = sight([1, 2])
    assert flip(seen, Route(0, np.array([0.5, 0.7]))) is None


def mixed(*terms: tuple[str, float, list[float]]) -> Route:
    """A route whose score is the sum of these terms."""
    told = tuple(Term(name, "s", weight, np.array(values)) for name, weight, values in terms)
    scores = np.sum([one.weight * one.values for one in told], axis=0)
    return Route(int(scores.argmin()), scores, terms=told)


def test_a_mixture_that_tells_its_terms_flips_by_the_one_that_changes_least() -> None:
    seen = sight([0, 0])
    found = flip(seen, mixed(("wait", 1.0, [10.0, 11.0]), ("prefill", 2.0, [0.5, 2.0])))
    assert found is not None
    assert (found.instance_id, found.input, found.from_value) == ("i1", "wait", 10.0)
    assert 14.0 < found.to_value < 14.0001


def test_a_term_that_would_fall_below_zero_does_not_flip() -> None:
    seen = sight([0, 0])
    found = flip(seen, mixed(("wait", 1.0, [4.0, 8.0]), ("cached", -1.0, [0.5, 0.0])))
    assert found is not None
    assert found.input == "wait"


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=2, max_size=6), st.floats(0.1, 10))
def test_inv_flip_a_term_that_changes_makes_the_rival_win(rows: list[tuple[float, float]], weight: float) -> None:
    waits, prefills = [row[0] for row in rows], [row[1] for row in rows]
    seen, route = sight([0] * len(rows)), mixed(("wait", 1.0, waits), ("prefill", weight, prefills))
    found = flip(seen, route)
    assert found is not None
    column = {"wait": waits, "prefill": prefills}[found.input]
    column[route.index] = found.to_value * (1 + 1e-9) + 1e-9
    changed = mixed(("wait", 1.0, waits), ("prefill", weight, prefills))
    assert seen.standing.instance_ids[changed.index] == found.instance_id


def test_candidates_and_the_sentence_tell_the_terms_with_units() -> None:
    seen = sight([0, 0])
    decision = explain(record(seen, mixed(("wait", 1.0, [1.0, 3.0]), ("prefill", 2.0, [0.5, 0.5]))), POLICIES)
    assert decision.candidates[0].terms == (ScoreTerm("wait", "s", 1.0, 1.0), ScoreTerm("prefill", "s", 2.0, 0.5))
    assert decision.reason.endswith("The score is 1 x 1 s of wait + 2 x 0.5 s of prefill.")


@pytest.mark.parametrize(("score", "value"), [(0.5, 0.500001), (0.0, 0.000001), (-30.0, -29.99997)])
def test_real_scores_flip_a_millionth_above(score: float, value: float) -> None:
    found = flip(sight([0, 0]), Route(0, np.array([min(0.0, score), score]), "kv_utilization"))
    assert found is not None
    assert found.to_value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("values", "expected"), [([0, 0], ("i1", 1.0)), ([0, 9], ("i1", 10.0)), ([9, 0], ("i0", 9.0))])
def test_terms_that_are_counted_flip_by_whole_steps(values: list[float], expected: tuple[str, float]) -> None:
    scores = np.array(values)
    route = Route(int(scores.argmin()), scores, terms=(Term("prompts", "tokens", 1.0, scores),))
    found = flip(sight([0, 0]), route)
    assert found is not None
    assert (found.instance_id, found.to_value) == expected


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 300)), min_size=2, max_size=8),
    st.integers(1, 7),
    st.sampled_from(["least_requests", "least_predicted_tokens"]),
)
def test_inv_flip_the_flip_flips_and_nothing_less_does(loads: list[tuple[int, int]], cap: int, name: str) -> None:
    seen = sight([load[0] for load in loads], [load[1] for load in loads], cap)
    if not seen.eligible.any():
        return
    router: Router = ROUTERS[name]()
    route = routed(router, view_of(seen))
    found = flip(seen, route)
    if found is None:
        assert seen.eligible.sum() == 1
        return
    field = found.input

    def winner_at(value: int) -> str:
        column = getattr(view_of(seen), field).copy()
        column[route.index] = value
        changed = view_of(with_counts(seen, **{field: column}))
        return changed.instance_ids[routed(router, changed).index]

    assert winner_at(int(found.to_value)) == found.instance_id
    for value in range(int(found.from_value), int(found.to_value)):
        assert winner_at(value) == seen.standing.instance_ids[route.index]


def test_power_of_two_flips_to_the_other_one_drawn() -> None:
    seen = sight([0, 0, 0, 0, 0])
    router = PowerOfTwo(seed=3)
    for _ in range(20):
        route = routed(router, view_of(seen))
        assert route.drawn is not None
        found = flip(seen, route)
        assert found is not None
        assert {f"i{index}" for index in route.drawn} == {seen.standing.instance_ids[route.index], found.instance_id}


def test_records_are_bounded_in_number() -> None:
    records = Records(3, 10**9)
    for number in range(5):
        records.add(record(None, None, f"d{number}"))
    assert [records.get(f"d{number}") is not None for number in range(5)] == [False, False, True, True, True]


def test_records_are_bounded_in_bytes() -> None:
    records = Records(10**6, 10 * 100 * BYTES_EACH)
    for number in range(50):
        seen = sight([0] * 100)
        records.add(record(seen, LeastPredictedTokens().route(view_of(seen)), f"d{number}"))
    assert len(records) == 10
    assert records.get("d49") is not None


def test_the_newest_record_is_kept_however_large() -> None:
    records = Records(10, 1)
    records.add(record(sight([0] * 100), None, "d1"))
    assert records.get("d1") is not None
