"""`forebay explain`: one decision of the scheduler or the autoscaler, with everything that led to it."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import click
import grpc
import uvloop
from lmaas.autoscaler.v1 import autoscaler_service_pb2
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub
from lmaas.autoscaler.v1.fleet_pb2 import ScalingDecision
from lmaas.common.v1.length_pb2 import LengthQuantiles
from lmaas.scheduler.v1 import scheduler_service_pb2
from lmaas.scheduler.v1.decision_pb2 import Candidate, Decision, Verdict
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from forebay.cli.console import make_console, make_table, print_json
from forebay.cli.options import json_option, state_dir_option
from forebay.cli.proto_json import plain
from forebay.cli.state import Addresses, locate
from forebay.core.errors import NotFound, Unavailable
from forebay.wire.channel import connect
from forebay.wire.errors import from_rpc_error

CALL_TIMEOUT_S = 5.0
Ask: TypeAlias = Callable[[str], Awaitable[Decision | ScalingDecision]]


@click.command()
@click.argument("decision_id")
@json_option
@state_dir_option
def explain(decision_id: str, as_json: bool, state_dir: Path) -> None:
    """Show why a request went where it went, or why the fleet changed.

    DECISION_ID comes from the answer's header x-forebay-decision-id, from `forebay load` or from `forebay status`.

    \b
    Examples:
      forebay explain d-17
      forebay explain d-17 --json
    """
    decision = uvloop.run(find(locate(state_dir), decision_id))
    if as_json:
        print_json(plain(decision))
    else:
        print_decision(make_console(), decision)


async def find(addresses: Addresses, decision_id: str) -> Decision | ScalingDecision:
    """The record, from the scheduler or else the autoscaler.

    Raises NotFound when both answer and neither knows it, Unavailable when one that might know it does not answer.
    """
    problems = []
    asks: list[Ask] = [partial(_placement, address) for address in addresses.schedulers.values()]
    asks.append(partial(_scaling, addresses.grpc["autoscaler"]))
    for ask in asks:
        try:
            return await ask(decision_id)
        except grpc.RpcError as error:
            problems.append(from_rpc_error(error))
    away = next((one for one in problems if not isinstance(one, NotFound)), None)
    if away is not None:
        raise Unavailable(f"cannot look up {decision_id!r}: {away.message}; see: forebay status")
    raise NotFound(f"no decision {decision_id!r} is on record: it is misspelt, or older than the records kept")


async def _placement(address: str, decision_id: str) -> Decision:
    async with connect(address) as channel:
        request = scheduler_service_pb2.ExplainRequest(decision_id=decision_id)
        return (await SchedulerServiceStub(channel).Explain(request, timeout=CALL_TIMEOUT_S)).decision


async def _scaling(address: str, decision_id: str) -> ScalingDecision:
    async with connect(address) as channel:
        request = autoscaler_service_pb2.ExplainDecisionRequest(decision_id=decision_id)
        return (await AutoscalerServiceStub(channel).ExplainDecision(request, timeout=CALL_TIMEOUT_S)).decision


def print_decision(console: Console, decision: Decision | ScalingDecision) -> None:
    """Prints a decision of either kind."""
    console.print(_placed(decision) if isinstance(decision, Decision) else _scaled(decision))


def _placed(decision: Decision) -> RenderableType:
    parts: list[RenderableType] = [Text(decision.reason, style="bold"), _facts(decision)]
    if decision.candidates:
        parts.append(_candidates(decision))
    if decision.verdict == Verdict.VERDICT_PLACED:
        parts.append(Text(_flip(decision)))
    return Group(*parts)


def _facts(decision: Decision) -> Table:
    table = make_table(f"Decision {decision.decision_id}", "", "")
    table.show_header = False
    verdict = Verdict.Name(decision.verdict).removeprefix("VERDICT_").lower()
    table.add_row("verdict", f"{verdict} {decision.instance_id}".strip())
    table.add_row("request", decision.request_id)
    table.add_row("time", f"{decision.decision_time.ToDatetime():%Y-%m-%d %H:%M:%S.%f} UTC")
    table.add_row("policies", _pairs(decision.policies))
    table.add_row("inputs", _numbers(decision.inputs))
    table.add_row("predicted length", _length(decision.predicted_length, decision.predicted_by))
    if decision.shadows:
        table.add_row("shadows", _pairs({name: place or "held" for name, place in decision.shadows.items()}))
    return table


def _length(value: LengthQuantiles, predicted_by: str) -> str:
    tokens = (value.p10_tokens, value.p50_tokens, value.p90_tokens, value.p97_tokens)
    quantiles = " ".join(f"{name} {count}" for name, count in zip(("p10", "p50", "p90", "p97"), tokens, strict=True))
    return f"{quantiles} tokens, by {predicted_by or 'nobody'}"


def _candidates(decision: Decision) -> Table:
    columns = ("", "instance", "score", "could take it", "what was seen")
    table = make_table("Candidates, best first", *columns, right="score")
    for one in decision.candidates:
        won = "→" if one.instance_id == decision.instance_id else ""
        score = f"{one.score:.6g}" if one.eligible else "–"
        table.add_row(won, one.instance_id, score, _eligible(one), _terms(one) or _numbers(one.inputs))
    return table


def _terms(one: Candidate) -> str:
    return " + ".join(f"{term.weight:g} × {term.value:.6g} {term.unit} ({term.name})" for term in one.terms)


def _eligible(one: Candidate) -> str:
    return "yes" if one.eligible else f"no: {one.reason}"


def _flip(decision: Decision) -> str:
    if not decision.HasField("flip"):
        rivals = sum(one.eligible for one in decision.candidates) > 1
        mixed = "The score is made of several inputs: no single one is known to flip the choice."
        return mixed if rivals else "There was no second instance that could have won."
    flip = decision.flip
    return (
        f"It would have gone to {flip.instance_id} if {flip.input} had been {getattr(flip, 'to'):g} "  # noqa: B009
        f"instead of {getattr(flip, 'from'):g}."
    )


def _scaled(decision: ScalingDecision) -> RenderableType:
    table = make_table(f"Scaling decision {decision.decision_id}", "", "")
    table.show_header = False
    before, wanted, after = decision.instances_before, decision.instances_wanted, decision.instances_after
    table.add_row("model", decision.model)
    table.add_row("instances", f"{before} → {after} (the policy wanted {wanted})")
    table.add_row("time", f"{decision.decision_time.ToDatetime():%Y-%m-%d %H:%M:%S} UTC")
    table.add_row("policy", f"{decision.policy}, {'advisory' if decision.mode == 1 else 'active'}")
    table.add_row("inputs", _numbers(decision.inputs))
    return Group(Text(decision.reason, style="bold"), table)


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {values[name]}" for name in sorted(values))


def _numbers(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {values[name]:g}" for name in sorted(values))
