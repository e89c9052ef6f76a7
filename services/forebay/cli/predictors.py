"""`forebay predictors`: who predicts, how well it goes live, and which model answers."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import click
import grpc
import uvloop
from lmaas.predictor.v1 import predictor_service_pb2 as messages
from lmaas.predictor.v1.length_pb2 import PredictorAccuracy, PredictorModel, ShadowTrial
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from forebay.cli.console import make_console, make_table, print_json, share
from forebay.cli.options import json_option, state_dir_option
from forebay.cli.proto_json import plain
from forebay.cli.state import locate
from forebay.core.errors import ConfigError, NotFound
from forebay.core.prediction import ModelKind
from forebay.wire.channel import connect

if TYPE_CHECKING:
    from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceAsyncStub

CALL_TIMEOUT_S = 30.0
"""A model may have to be opened first."""
PAGE_SIZE = 1_000
ABSENT = "–"
KINDS = {kind.name.lower(): kind for kind in ModelKind}
T = TypeVar("T")
AsyncStub: TypeAlias = "PredictorServiceAsyncStub"
Ask: TypeAlias = Callable[[AsyncStub], Awaitable[T]]


@dataclass(slots=True)
class Seen:
    """What the predictor tells of itself."""

    models: list[PredictorModel] = field(default_factory=list)
    accuracy: list[PredictorAccuracy] = field(default_factory=list)


@click.group(invoke_without_command=True)
@json_option
@state_dir_option
@click.pass_context
def predictors(context: click.Context, /, as_json: bool, state_dir: Path) -> None:
    """Show the predictors and how well they do; choose which one answers.

    Figures are those of the newest 500 outcomes: the mean absolute error of the median in tokens, the share of answers
    within their 90 % bound, and the bounds' sum over the lengths' sum (what is reserved for each token that is needed).

    \b
    Examples:
      forebay predictors
      forebay predictors --json | jq '.accuracy[] | select(.is_drifting)'
      forebay predictors shadow onnx_quantile@4
      forebay predictors activate onnx_quantile@4
      forebay predictors rollback
    """
    if context.invoked_subcommand is not None:
        context.default_map = {context.invoked_subcommand: {"state_dir": str(state_dir)}}
        return
    seen = _ask(state_dir, look)
    if as_json:
        print_json({"models": [plain(one) for one in seen.models], "accuracy": [plain(one) for one in seen.accuracy]})
    else:
        make_console().print(render(seen))


@predictors.command()
@click.argument("name", metavar="NAME[@VERSION]")
@state_dir_option
def activate(name: str, state_dir: Path) -> None:
    """Make a model the one that answers; without a version the newest.

    No call is dropped: batches that have begun end with the model that they began with.

    \b
    Examples:
      forebay predictors activate onnx_quantile
      forebay predictors activate onnx_quantile@3
      forebay predictors activate seasonal
    """
    _told(_ask(state_dir, lambda stub: _activate(stub, name)), "answers now")


@predictors.command()
@click.argument("name", metavar="NAME[@VERSION]")
@click.option("--end", "ends", is_flag=True, help="End the measuring instead.")
@state_dir_option
def shadow(name: str, ends: bool, state_dir: Path) -> None:
    """Measure a length model beside the active one, on the same requests; it answers nobody.

    It takes over by itself once it is better by 2 % and not by luck, unless [predictor] says promote = "manual".

    \b
    Examples:
      forebay predictors shadow onnx_quantile@4
      forebay predictors shadow kernel_history --end
    """
    model, version = _split(name)
    request = messages.ShadowModelRequest(name=model, version=version, ends=ends, request_id=uuid.uuid4().hex)

    async def ask(stub: AsyncStub) -> PredictorModel:
        return (await stub.ShadowModel(request, timeout=CALL_TIMEOUT_S)).model

    _told(_ask(state_dir, ask), "is measured no more" if ends else "is measured; see how it does: forebay predictors")


@predictors.command()
@click.argument("kind", type=click.Choice(sorted(KINDS)), default="length")
@state_dir_option
def rollback(kind: str, state_dir: Path) -> None:
    """Return to the model that answered before, with all that it learned; once more undoes it.

    \b
    Examples:
      forebay predictors rollback
      forebay predictors rollback workload
    """
    request = messages.RollbackModelRequest(kind=int(KINDS[kind]), request_id=uuid.uuid4().hex)  # type: ignore[arg-type]

    async def ask(stub: AsyncStub) -> PredictorModel:
        return (await stub.RollbackModel(request, timeout=CALL_TIMEOUT_S)).model

    _told(_ask(state_dir, ask), "answers now")


async def look(stub: AsyncStub) -> Seen:
    """All models and all figures. Raises grpc.RpcError when the predictor does not answer."""
    seen = Seen()
    token, is_last = "", False
    while not is_last:
        listed = messages.ListModelsRequest(page_size=PAGE_SIZE, page_token=token)
        models = await stub.ListModels(listed, timeout=CALL_TIMEOUT_S)
        seen.models += models.models
        token, is_last = models.next_page_token, not models.next_page_token
    is_last = False
    while not is_last:
        told = messages.ListAccuracyRequest(page_size=PAGE_SIZE, page_token=token)
        rows = await stub.ListAccuracy(told, timeout=CALL_TIMEOUT_S)
        seen.accuracy += rows.rows
        token, is_last = rows.next_page_token, not rows.next_page_token
    return seen


def render(seen: Seen) -> RenderableType:
    """The page: the models of each kind, then the figures where there are any."""
    parts: list[RenderableType] = [_models(seen.models)]
    if seen.accuracy:
        parts.append(_accuracy(seen.accuracy))
    else:
        parts.append(Text("No outcome came yet: figures appear once requests end.", style="dim"))
    return Group(*parts)


def _models(models: Sequence[PredictorModel]) -> Table:
    table = make_table("Predictors", "predicts", "predictor", "state", "runs on", "beside the active one")
    for one in models:
        provider = one.execution_provider.removesuffix("ExecutionProvider") or ABSENT
        trial = _trial(one.trial) if one.HasField("trial") else ""
        table.add_row(ModelKind(one.kind).name.lower(), label(one), _state(one), provider, trial)
    return table


def _state(model: PredictorModel) -> Text:
    if model.active:
        return Text("active", style="green")
    if model.shadow:
        return Text("shadow", style="yellow")
    return Text("previous" if model.previous else "", style="dim")


def _trial(trial: ShadowTrial) -> str:
    if not trial.outcome_count or not trial.active_loss_tokens:
        return f"{trial.outcome_count} outcomes yet"
    change = trial.shadow_loss_tokens / trial.active_loss_tokens - 1
    return f"loss {change:+.1%}, z {trial.z_score:.1f}, {trial.outcome_count} outcomes"


def _accuracy(rows: Sequence[PredictorAccuracy]) -> Table:
    columns = ("predictor", "model", "application", "count", "MAE", "≤ p90", "reserve", "drift")
    table = make_table("How lengths are predicted; drift since when, in UTC", *columns, right="count|MAE|≤ p90|reserve")
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(
            _given(row.predictor),
            _given(row.model),
            _given(row.application or ABSENT),
            str(row.outcome_count),
            f"{row.mae_tokens:.1f}",
            share(row.coverage_p90 if row.HasField("coverage_p90") else None),
            f"{row.reserve_ratio:.2f}" if row.HasField("reserve_ratio") else ABSENT,
            _drift(row),
        )
    return table


def _given(text: str) -> Text:
    """What a caller chose, with nothing in it that a terminal would obey."""
    return Text("".join(one if one.isprintable() else "·" for one in text))


def _drift(row: PredictorAccuracy) -> Text:
    if not row.is_drifting:
        return Text(ABSENT, style="dim")
    return Text(f"{row.drift_start_time.ToDatetime():%H:%M:%S}", style="red")


async def _activate(stub: AsyncStub, name: str) -> PredictorModel:
    model, version = _split(name)
    known = (await look(stub)).models
    kind = next((one.kind for one in known if one.name == model), None)
    if kind is None:
        names = ", ".join(dict.fromkeys(one.name for one in known))
        raise NotFound(f"there is no predictor {model!r}; known: {names}")
    request = messages.ActivateModelRequest(kind=kind, name=model, version=version, request_id=uuid.uuid4().hex)
    return (await stub.ActivateModel(request, timeout=CALL_TIMEOUT_S)).model


def label(model: PredictorModel) -> str:
    """Name and version."""
    return f"{model.name}@{model.version}" if model.version else model.name


def _split(text: str) -> tuple[str, str]:
    name, at, version = text.partition("@")
    if not name or (at and not version):
        raise ConfigError(f"{text!r} is no predictor; give NAME or NAME@VERSION, such as onnx_quantile@3")
    return name, version


def _ask(state_dir: Path, ask: Ask[T]) -> T:
    async def run() -> T:
        channel: grpc.aio.Channel = connect(locate(state_dir).grpc["predictor"])
        async with channel:
            return await ask(PredictorServiceStub(channel))

    return uvloop.run(run())


def _told(model: PredictorModel, what: str) -> None:
    click.echo(f"{label(model)} {what}")
