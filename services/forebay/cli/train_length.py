"""`forebay train length`: a new version of a length model from anybody's examples or the deployment's own outcomes."""

import asyncio
import os
import shlex
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import grpc
from lmaas.predictor.v1 import length_pb2
from lmaas.predictor.v1 import predictor_service_pb2 as messages
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from forebay.cli.console import make_console, make_folder, print_json
from forebay.cli.datasets import data_dir
from forebay.cli.options import head_bytes_option, json_option, state_dir_option
from forebay.cli.stack_config import MODELS_FOLDER
from forebay.cli.state import locate, read_run
from forebay.core.errors import ConfigError, NotFound
from forebay.core.prediction import PredictorModel
from forebay.predictor.engine import label
from forebay.predictor.store_files import PACKAGED, FolderModelStore
from forebay.wire.channel import connect
from forebay.wire.errors import from_rpc_error

SEED = 20260801
FAMILIES = ("fast", "magnus", "semantic", "preserve", "finetuned")
RUNNING = "running"
LICENCE_UNSTATED = "not stated"
RPC_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command was told."""

    files: tuple[Path, ...]
    database: str | None
    family: str
    start: str | None
    output: Path
    licence: str | None
    seed: int
    has_report: bool
    head_bytes: int


@click.command("length")
@click.option("--data", type=click.Path(path_type=Path), multiple=True, help="File (or folder of the open sets).")
@click.argument("more", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option(
    "--from-db",
    "database",
    is_flag=False,
    flag_value=RUNNING,
    metavar="[URL]",
    help="Train on what the predictor kept of its outcomes. Default: the database of the running stack.",
)
@click.option("--family", type=click.Choice(FAMILIES), default="fast", show_default=True, help="What to train.")
@click.option("--start", metavar="NAME@VERSION", help="Learn on from this model of the registry; finetuned alone can.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="The registry. Default: models, in --state-dir."
)
@click.option("--licence", help="Licence of the data, for the record. Default: what its rows say.")
@click.option("--seed", type=int, default=SEED, show_default=True, help="Equal seeds and data give equal models.")
@click.option("--report/--no-report", "has_report", default=True, help="Write a page with plots beside the model.")
@click.option("--activate", "then", flag_value="activate", help="Make it answer in the running predictor.")
@click.option("--shadow", "then", flag_value="shadow", help="Measure it beside the active model of the running one.")
@click.option("--predictor", metavar="HOST:PORT", help="The running predictor. Default: that of --state-dir.")
@head_bytes_option
@state_dir_option
@json_option
def length(
    data: tuple[Path, ...],
    more: tuple[Path, ...],
    database: str | None,
    family: str,
    start: str | None,
    output: Path | None,
    licence: str | None,
    seed: int,
    has_report: bool,
    then: str | None,
    predictor: str | None,
    head_bytes: int,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Train a model that predicts answer lengths, as the next version in the registry.

    Reads JSON lines, CSV or Parquet, one answer a row: the columns prompt and response_tokens, and where known
    prompt_tokens, model, application, tenant, tokens_max, temperature, turn_number, system_digest, censored, prompt_id,
    split and licence. A fifth of the prompts is held back to test on; no prompt is on both sides. Without --data and
    --from-db it trains on the open sets of FOREBAY_DATA, or shared/data beside the repository.

    \b
    Examples:
      forebay train length --data mine.jsonl --licence CC-BY-4.0
      forebay train length --data a.csv b.parquet --family magnus --output models
      forebay train length --data mine.jsonl --family finetuned --start finetuned@1
      forebay train length --from-db --shadow
    """
    files = (*data, *more)
    if files and database:
        raise ConfigError("train either on --data or on --from-db: the database has features only, which do not mix")
    options = Options(
        files=files or (() if database else (_open_sets(),)),
        database=_database_url(database, state_dir) if database else None,
        family=family,
        start=start,
        output=output or state_dir / MODELS_FOLDER,
        licence=licence,
        seed=seed,
        has_report=has_report,
        head_bytes=head_bytes,
    )
    model, page, rows = _make(options)
    if then:
        _tell(then, model, options.output, predictor or locate(state_dir).grpc["predictor"])
    done = {"activate": "it answers now", "shadow": "it is measured beside the active model now"}.get(then or "", "")
    if as_json:
        print_json({"model": label(model), "file": model.metadata["file"], "folder": str(options.output),
                    "report": str(page) if page else None, "told": then, "scores": rows,
                    "metadata": dict(model.metadata)})  # fmt: skip
        return
    _print(model, page, rows, options, done)


def _make(options: Options) -> tuple[PredictorModel, Path | None, Any]:
    try:
        from forebay.train import candidate
        from forebay.train.tables import Table, read_tables
    except ImportError as error:
        raise ConfigError(f"training needs {error.name}, which is not here; run: make dev") from error
    make_folder(options.output)
    store = FolderModelStore(options.output, PACKAGED)
    start, start_note = _start(store, options.start) if options.start else (None, "")
    console = Console(stderr=True)
    with _progress(console, 1 + candidate.step_count(options.family)) as on_step:
        table: Table = (
            _read_database(options.database) if options.database else read_tables(options.files, options.head_bytes)
        )
        on_step("read")
        made_by = shlex.join(["forebay", *sys.argv[1:]]) if sys.argv[1:2] == ["train"] else "forebay train length"
        licence = options.licence or table.licence or LICENCE_UNSTATED
        job = candidate.Job(options.family, table, options.seed, licence, made_by, start, start_note)
        found = candidate.train(job, on_step)
    for note in (*table.notes, *candidate.doubts(found.rows)):
        console.print(f"note: {note}", style="dim", markup=False, soft_wrap=True)
    model = store.add(str(found.description["name"]), found.content, found.description)
    page = _write_report(options, found, model, table.notes) if options.has_report else None
    return model, page, found.rows


def _start(store: FolderModelStore, wanted: str) -> tuple[bytes, str]:
    """The content of a model, and a note of its name, its data and their licence."""
    known = {label(model): model for model in store.list()}
    if wanted not in known:
        raise NotFound(f"--start: there is no model {wanted!r}; known: {', '.join(sorted(known))}")
    about = known[wanted].metadata
    note = f"{wanted}: {about.get('trained_on', LICENCE_UNSTATED)} ({about.get('licence', LICENCE_UNSTATED)})"
    return store.read(known[wanted]), note


def _write_report(options: Options, found: Any, model: PredictorModel, notes: tuple[str, ...]) -> Path:
    from forebay.train.report import render

    path = options.output / f"{model.name}-{model.version}.html"
    handle, name = tempfile.mkstemp(dir=options.output, prefix=".new-")
    with os.fdopen(handle, "w") as file:
        file.write(render(found, model, notes))
    os.chmod(name, 0o644)
    Path(name).replace(path)
    return path


def _read_database(url: str) -> Any:
    from forebay import sql
    from forebay.predictor.store_sql import SqlExampleStore
    from forebay.train.outcomes import read_outcomes

    engine = sql.open_engine(url)
    try:
        return read_outcomes(SqlExampleStore(engine))
    finally:
        engine.dispose()


def _database_url(wanted: str, state_dir: Path) -> str:
    if wanted != RUNNING:
        return wanted
    run = read_run(state_dir)
    if run is not None:
        return run.database_url
    return os.environ.get("FOREBAY_DATABASE_URL", f"sqlite:///{state_dir.resolve() / 'forebay.db'}")


def _open_sets() -> Path:
    folder = data_dir()
    if folder is None:
        raise ConfigError("no training data found; give files by --data, or take the deployment's own by --from-db")
    return folder


def _tell(then: str, model: PredictorModel, folder: Path, address: str) -> None:
    """Tells the running predictor what to do with the model. Raises NotFound when it does not read the folder."""
    try:
        asyncio.run(_call(then, model, address))
    except grpc.RpcError as error:
        found = from_rpc_error(error)
        if isinstance(found, NotFound):
            raise NotFound(
                f"{label(model)} is in {folder}, but the predictor at {address} does not read there; set models_folder "
                "of its section [predictor], or train with --output where it reads"
            ) from error
        raise


async def _call(then: str, model: PredictorModel, address: str) -> None:
    request_id = uuid.uuid4().hex
    async with connect(address) as channel:
        stub = PredictorServiceStub(channel)
        if then == "activate":
            activate = messages.ActivateModelRequest(
                kind=length_pb2.MODEL_KIND_LENGTH, name=model.name, version=model.version, request_id=request_id
            )
            await stub.ActivateModel(activate, timeout=RPC_TIMEOUT_S)
        else:
            shadow = messages.ShadowModelRequest(name=model.name, version=model.version, request_id=request_id)
            await stub.ShadowModel(shadow, timeout=RPC_TIMEOUT_S)


def _print(model: PredictorModel, page: Path | None, rows: Any, options: Options, done: str) -> None:
    from forebay.cli.evaluate_length import print_figures

    console = make_console()
    print_figures(console, f"{label(model)}: test prompts, none of them trained on", rows)
    path = options.output / model.metadata["file"]
    console.print(f"wrote {label(model)}: {path} (sha256 {model.digest_sha256[:16]})", soft_wrap=True)
    if page:
        console.print(f"report: {page}", soft_wrap=True)
    console.print(done or f"next: forebay predictors shadow {label(model)}", style="dim", markup=False)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Any]:
    columns = (TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("reading", total=total)
        yield lambda name: progress.update(task, advance=1, description=name)
