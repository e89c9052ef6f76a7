"""Renders a record: every candidate with its inputs, the smallest change that flips the choice, and one sentence."""

from collections.abc import Mapping
from math import ceil, floor

import numpy as np

from forebay.core.scheduling import Decision, Flip, Verdict
from forebay.core.units import US_PER_S
from forebay.core.values import Candidate, ScoreTerm
from forebay.scheduler.decisions import Batch, Record, Sight
from forebay.scheduler.lanes import COUNTED
from forebay.scheduler.policy.router.base import Mask, Observed, Route, Term

WHOLE = ("tokens", "requests", "instances")
"""Units of terms that are counted: the next value is one more."""
BATCH_INPUTS = ("request_count", "prompt_max", "answer_min", "answer_max", "waiting_count")
"""What is told of a batch, in requests, tokens and batches."""
STEP = 1e-6
"""How much more the next value is of what is measured, in shares of itself and at least of 1: less is no change to a
reader, and from 0 the very next number is 5e-324."""


def explain(record: Record, policies: Mapping[str, str]) -> Decision:
    """The decision that a record stands for."""
    sight, route = record.sight, record.route
    return Decision(
        decision_id=record.decision_id,
        request_id=record.request_id,
        decided_us=record.decided_us,
        verdict=record.verdict,
        instance_id=_winner(record),
        policies=policies,
        inputs=_inputs(record),
        predicted=record.predicted,
        predicted_by=record.predicted_by,
        candidates=_candidates(sight, route) if sight else (),
        flip=flip(sight, route) if sight and route else None,
        reason=_sentence(record, policies),
        shadows=_shadows(record),
        batch_id=record.batch.batch_id if record.batch else "",
    )


def flip(sight: Sight, route: Route) -> Flip | None:
    """The smallest change of the winner that makes it lose to the runner-up.

    None where there is no second instance, or where the score is a mixture that does not tell its terms. A winner with
    the smaller id wins ties, so it must be worse by one step: a whole one of what is counted, STEP of what is measured;
    another loses at a tie already. A rise of in-flight requests never passes the cap, where the winner is full. Of the
    terms of a mixture it is the one that has to change by the smallest share of what it is, or of 1 where it is less.
    """
    runner_up = _runner_up(sight, route)
    if runner_up is None or not (route.score_input or route.terms):
        return None
    scores, rival = route.scores, sight.standing.instance_ids[runner_up]
    loses_ties = runner_up < route.index
    if route.terms:
        return _flip_of_term(route, rival, float(scores[runner_up]) - float(scores[route.index]), loses_ties)
    value = scores[runner_up] if loses_ties else _next_up(scores[runner_up])
    if route.score_input == "in_flight_count":
        value = min(value, sight.standing.concurrency_cap[route.index])
    return Flip(rival, route.score_input, float(scores[route.index]), float(value))


def _flip_of_term(route: Route, rival: str, rise: float, loses_ties: bool) -> Flip | None:
    """The term whose change by the smallest share raises the score by `rise`; none falls below zero that is not."""
    flips = []
    for term in route.terms:
        before = float(term.values[route.index])
        after = _moved(term, before, rise, loses_ties)
        if after != before and (after >= 0 or before < 0):
            flips.append((abs(after - before) / max(abs(before), 1.0), Flip(rival, term.name, before, after)))
    return min(flips, key=lambda one: one[0])[1] if flips else None


def _moved(term: Term, before: float, rise: float, loses_ties: bool) -> float:
    """The value of a term with which the score is higher by `rise`, and by more where ties are won."""
    if not term.weight:
        return before
    sign = 1 if term.weight > 0 else -1
    change = rise / abs(term.weight)
    if term.unit in WHOLE:
        return before + sign * (ceil(change) if loses_ties else floor(change) + 1)
    after = before + sign * change
    return after if loses_ties else after + sign * STEP * max(1.0, abs(after))


def _runner_up(sight: Sight, route: Route) -> int | None:
    rivals = _compared(sight, route).copy()
    rivals[route.index] = False
    return int(np.where(rivals, route.scores, np.inf).argmin()) if rivals.any() else None


def _next_up(score: np.generic) -> float:
    number = score.item()
    return number + 1 if isinstance(number, int) else number + STEP * max(1.0, abs(number))


def _compared(sight: Sight, route: Route | None) -> Mask:
    """Which instances could win: the eligible ones, or those of them that the router drew."""
    if route is None or route.drawn is None:
        return sight.eligible
    mask = np.zeros_like(sight.eligible)
    mask[list(route.drawn)] = True
    return mask


def _candidates(sight: Sight, route: Route | None) -> tuple[Candidate, ...]:
    compared = _compared(sight, route)
    scores = route.scores if route else np.zeros(len(compared))
    order = np.lexsort((np.arange(len(compared)), scores, ~compared))
    return tuple(_candidate(sight, route, compared, index) for index in order.tolist())


def _candidate(sight: Sight, route: Route | None, compared: Mask, index: int) -> Candidate:
    standing = sight.standing
    inputs = {name: float(row[index]) for name, row in zip(COUNTED, sight.counts, strict=True)}
    inputs |= {"concurrency_cap": float(standing.concurrency_cap[index])} | _seen(standing.observed, index)
    score = float(route.scores[index]) if route else 0.0
    if route and route.score_input:
        inputs[route.score_input] = score
    eligible = bool(compared[index])
    why_not = "" if eligible else _reason(sight, index)
    return Candidate(standing.instance_ids[index], score, eligible, why_not, inputs, _terms(route, index))


def _terms(route: Route | None, index: int) -> tuple[ScoreTerm, ...]:
    terms = route.terms if route else ()
    return tuple(ScoreTerm(one.name, one.unit, one.weight, float(one.values[index])) for one in terms)


def _seen(seen: Observed, index: int) -> dict[str, float]:
    """What was seen of an instance from outside, if it tells anything."""
    names = ("running_count", "waiting_count", "kv_utilization")
    return {name: float(getattr(seen, name)[index]) for name in names if seen.told[index]}


def _reason(sight: Sight, index: int) -> str:
    """Why an instance could not win; the cause that lasts longest is told first."""
    standing = sight.standing
    if sight.eligible[index]:
        return "not drawn"
    if standing.blocked[index]:
        return standing.blocked[index]
    if standing.instance_ids[index] in sight.excluded:
        return "excluded"
    return "context too short" if standing.contexts[index] < sight.context_tokens else "full"


def _inputs(record: Record) -> dict[str, float]:
    batch = record.batch
    together = {} if batch is None else {f"batch_{name}": float(getattr(batch, name)) for name in BATCH_INPUTS}
    return {
        "prompt_tokens": float(record.prompt_tokens),
        "tokens_max": float(record.tokens_max),
        "slo_class": float(record.slo_class),
        "held_us": float(record.held_us),
        "held_count": float(record.counts.held),
        "lease_count": float(record.counts.leases),
    } | together


def _winner(record: Record) -> str:
    if record.sight is None or record.route is None:
        return ""
    return record.sight.standing.instance_ids[record.route.index]


def _shadows(record: Record) -> dict[str, str]:
    """Where the shadows would have sent the request; empty where one would have held it."""
    ids = record.sight.standing.instance_ids if record.sight else ()
    return {name: ids[index] if index >= 0 else "" for name, index in record.others}


def _sentence(record: Record, policies: Mapping[str, str]) -> str:
    sight, route = record.sight, record.route
    if record.verdict is not Verdict.PLACED or sight is None or route is None:
        return record.text
    compared = int(_compared(sight, route).sum())
    held = f" after {record.held_us / US_PER_S:.3f} s in the queue" if record.held_us else ""
    return (
        f"{policies['router']} chose {_winner(record)}{held}: its score {float(route.scores[route.index]):g} is the "
        f"lowest of {compared} compared among {len(sight.standing.instance_ids)} instances of {record.model}"
        f"{_runner_up_text(sight, route)}.{_sum_text(route)}{_batch_text(record.batch, policies)}"
    )


def _batch_text(batch: Batch | None, policies: Mapping[str, str]) -> str:
    """Who the request runs with, and why these."""
    if batch is None:
        return ""
    others = "1 other" if batch.request_count == 2 else f"{batch.request_count - 1} others"
    return (
        f" It runs in batch {batch.batch_id} with {others}, which {policies['grouper']} formed "
        f"of prompts of up to {batch.prompt_max} tokens and predicted answers of {batch.answer_min} to "
        f"{batch.answer_max} tokens; {batch.waiting_count} more of the model were left to wait."
    )


def _sum_text(route: Route) -> str:
    """The winner's score in words."""
    parts = (f"{one.weight:g} x {one.value:g} {one.unit} of {one.name}" for one in _terms(route, route.index))
    return f" The score is {' + '.join(parts)}." if route.terms else ""


def _runner_up_text(sight: Sight, route: Route) -> str:
    runner_up = _runner_up(sight, route)
    if runner_up is None:
        return ""
    return f"; next is {sight.standing.instance_ids[runner_up]} with {float(route.scores[runner_up]):g}"
