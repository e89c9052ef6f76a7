"""The parts of a run that every kind of run is made of: policies, the predictor, the result."""

from dataclasses import dataclass
from pathlib import Path

from forebay.autoscaler.config import Config as AutoscalerConfig
from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.autoscaler.policy.autoscaler.base import Autoscaler
from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.core.prediction import ModelKind, PredictorModel
from forebay.plugins import with_plugins
from forebay.predictor.build import opener
from forebay.predictor.config import Config as PredictorConfig
from forebay.predictor.engine import PredictorEngine
from forebay.predictor.policy.length import TRAINED
from forebay.predictor.store_files import PACKAGED, FolderModelStore
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.scheduler.policy import KINDS, Policies, build
from forebay.simulator.config import PolicyConfig, World
from forebay.simulator.oracles import AUTOSCALER_ORACLES
from forebay.simulator.oracles.predictor import build_predictor
from forebay.simulator.results import RunResult
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.predicting import NoPredictor, PredictorShell
from forebay.simulator.shell.requests import Requests
from forebay.simulator.workload.base import Workload

NO_PREDICTOR = "none"
"""The `length` of an arm in which the scheduler's own histogram predicts."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is to be run; `load` only labels the result: the workload comes scaled."""

    workload: Workload
    world: World
    policy: PolicyConfig
    seed: int = 0
    load: float = 1.0


def policies_of(config: SchedulerConfig) -> Policies:
    """The scheduler's policies, those of installed packages among them."""
    return build(config, {kind: with_plugins(kind, policies) for kind, policies in KINDS.items()})


def autoscaler_of(config: AutoscalerConfig) -> Autoscaler:
    """The arm's autoscaler, those of installed packages and the oracles among the choice.

    Raises ConfigError for a policy that does not exist or takes no such parameter.
    """
    known = {**with_plugins("autoscaler", AUTOSCALERS), **AUTOSCALER_ORACLES}
    if config.policy not in known:
        raise ConfigError(f"unknown policy {config.policy!r} in [autoscaler]; known: {', '.join(sorted(known))}")
    return from_mapping(known[config.policy], config.parameters, "autoscaler.parameters")


def predictor_config(scenario: Scenario) -> PredictorConfig:
    """The [predictor] of the arm."""
    table = dict(scenario.policy.predictor)
    if table.get("length") == NO_PREDICTOR:
        # Somebody must answer with the engine, though nobody asks for lengths.
        table["length"] = "histogram"
    return from_mapping(PredictorConfig, table, "predictor")


def predictor_of(scenario: Scenario) -> PredictorEngine:
    """The predictor's engine with the arm's predictor answering. Raises ConfigError where it cannot."""
    config = predictor_config(scenario)
    engine = build_predictor(config, scenario.workload)
    if config.length in TRAINED:
        _load_trained(engine, config)
    return engine


def lengths_of(
    context: Context, scenario: Scenario, engine: PredictorEngine, scheduler: SchedulerConfig
) -> PredictorShell | NoPredictor:
    """Who predicts lengths for the scheduler."""
    if scenario.policy.predictor.get("length") == NO_PREDICTOR:
        return NoPredictor()
    return PredictorShell(context, engine, scheduler.outcome_interval_s)


def result_of(scenario: Scenario, context: Context, requests: Requests) -> RunResult:
    """What the run leaves."""
    workload = scenario.workload
    return RunResult(
        name=scenario.policy.name,
        seed=scenario.seed,
        load=scenario.load,
        end_us=context.now_us,
        requests=context.rows.columns(requests.served_tokens),
        models=workload.models,
        tenants=workload.tenants,
        regions=workload.regions,
        instances=tuple(machine.instance_id for machine in context.machines),
        changes=tuple(context.changes),
        counters=dict(context.counters),
        rejections=dict(context.rejections),
        turns=tuple(context.turns),
    )


def _load_trained(engine: PredictorEngine, config: PredictorConfig) -> None:
    """The newest trained model answers."""
    folder = Path(config.models_folder) if config.models_folder else PACKAGED
    store = FolderModelStore(folder)
    found = [model for model in store.list() if model.name == config.length]
    if not found:
        raise ConfigError(
            f"no {config.length} in {folder}; train one, or set length in [predictor] to a policy without file"
        )
    newest = max(found, key=_version)
    loaded = opener(config)(newest, store.read(newest))
    engine.on_loaded(loaded)
    engine.on_activate(ModelKind.LENGTH, loaded.label)


def _version(model: PredictorModel) -> int:
    return int(model.version) if model.version.isdecimal() else 0
