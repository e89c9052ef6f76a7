"""Puts a run together from a scenario and runs it: the composition root of the simulator."""

from collections.abc import Callable
from dataclasses import dataclass

from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.gateway.config import Config as GatewayConfig
from forebay.gateway.engine import Engine as GatewayEngine
from forebay.plugins import with_plugins
from forebay.predictor.build import build_engine
from forebay.predictor.config import Config as PredictorConfig
from forebay.predictor.engine import PredictorEngine
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.scheduler.engine import Engine as SchedulerEngine
from forebay.scheduler.policy import KINDS, build
from forebay.simulator.config import PolicyConfig, World
from forebay.simulator.kernel import make_kernel
from forebay.simulator.profiles import profile_of
from forebay.simulator.results import RunResult
from forebay.simulator.shell.autoscaling_forecasts import Forecasts
from forebay.simulator.shell.checks import Checks
from forebay.simulator.shell.clients import Clients
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.fleet import LiveFleet
from forebay.simulator.shell.fleet_plan import make_plan
from forebay.simulator.shell.journal import Journal
from forebay.simulator.shell.loop import Simulation
from forebay.simulator.shell.predicting import NoPredictor, PredictorShell
from forebay.simulator.shell.prefixes import Prefixes
from forebay.simulator.shell.requests import Requests
from forebay.simulator.shell.scheduling import SchedulerShell
from forebay.simulator.shell.serving import GatewayShell
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


def simulate(
    scenario: Scenario,
    *,
    kernel: str = "fast",
    journal: Journal | None = None,
    watch: Callable[[int], None] | None = None,
    check: bool = False,
) -> RunResult:
    """Runs the scenario; `watch` hears now and then how many rows have ended; `check` looks at every invariant.

    Equal scenarios give equal results. Raises ConfigError for a policy that does not exist or takes no such parameter.
    """
    workload = scenario.workload
    numbers = make_kernel(len(workload), kernel)
    context = Context(workload, scenario.world, numbers, profile_of, scenario.seed, journal)
    gateway_config = from_mapping(GatewayConfig, scenario.policy.gateway, "gateway")
    scheduler_config = from_mapping(SchedulerConfig, scenario.policy.scheduler, "scheduler")
    requests = Requests(workload, gateway_config.prompt_head_bytes)
    clients = Clients(context, requests)
    predictor = build_engine(_predictor_config(scenario))
    lengths = _lengths(context, scenario, predictor, scheduler_config)
    scheduler = SchedulerShell(context, _scheduler(scheduler_config), scheduler_config, lengths)
    gateway = GatewayShell(context, GatewayEngine(gateway_config), gateway_config, requests, clients, Prefixes(context))
    fleet = _fleet(context, scenario, predictor, scheduler_config)
    clients.connect(gateway)
    gateway.connect(scheduler, fleet)
    checks = Checks(context, scheduler, gateway, clients, requests) if check else None
    scheduler.connect(checks or gateway, fleet)
    fleet.begin(scheduler, gateway)
    gateway.begin()
    scheduler.begin()
    lengths.begin()
    Simulation(context, clients, checks or gateway, watch, checks.look if checks else None).run()
    if checks:
        checks.conclude()
    return _result(scenario, context, requests)


def _scheduler(config: SchedulerConfig) -> SchedulerEngine:
    kinds = {kind: with_plugins(kind, policies) for kind, policies in KINDS.items()}
    return SchedulerEngine(config, build(config, kinds))


def _lengths(
    context: Context, scenario: Scenario, engine: PredictorEngine, scheduler: SchedulerConfig
) -> PredictorShell | NoPredictor:
    if scenario.policy.predictor.get("length") == NO_PREDICTOR:
        return NoPredictor()
    return PredictorShell(context, engine, scheduler.outcome_interval_s)


def _fleet(context: Context, scenario: Scenario, predictor: PredictorEngine, scheduler: SchedulerConfig) -> LiveFleet:
    plan = make_plan(scenario.world, scenario.policy.autoscaler, context.machines)
    policies = with_plugins("autoscaler", AUTOSCALERS)
    if plan.config.policy not in policies:
        known = ", ".join(sorted(policies))
        raise ConfigError(f"unknown policy {plan.config.policy!r} in [autoscaler]; known: {known}")
    policy = from_mapping(policies[plan.config.policy], plan.config.parameters, "autoscaler.parameters")
    forecast = predictor.forecaster.policy.forecast
    config = _predictor_config(scenario)
    forecasts = Forecasts(policy.needs, tuple(plan.scaled), forecast, config.history_s, config.history_points_max)
    return LiveFleet(context, plan, policy, forecasts, scheduler.watch_interval_s)


def _predictor_config(scenario: Scenario) -> PredictorConfig:
    table = dict(scenario.policy.predictor)
    if table.get("length") == NO_PREDICTOR:
        del table["length"]
    return from_mapping(PredictorConfig, table, "predictor")


def _result(scenario: Scenario, context: Context, requests: Requests) -> RunResult:
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
    )
