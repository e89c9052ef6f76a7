"""Puts a run together from a scenario and runs it: the composition root of the simulator."""

from collections.abc import Callable
from dataclasses import dataclass

from forebay.core.config import from_mapping
from forebay.gateway.config import Config as GatewayConfig
from forebay.gateway.engine import Engine as GatewayEngine
from forebay.plugins import with_plugins
from forebay.predictor.build import build_engine
from forebay.predictor.config import Config as PredictorConfig
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.scheduler.engine import Engine as SchedulerEngine
from forebay.scheduler.policy import KINDS, build
from forebay.simulator.config import PolicyConfig, World
from forebay.simulator.kernel import make_kernel
from forebay.simulator.results import RunResult
from forebay.simulator.shell.clients import Clients
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.journal import Journal
from forebay.simulator.shell.loop import Simulation
from forebay.simulator.shell.predicting import NoPredictor, PredictorShell
from forebay.simulator.shell.prefixes import Prefixes
from forebay.simulator.shell.requests import Requests
from forebay.simulator.shell.scheduling import SchedulerShell
from forebay.simulator.shell.serving import GatewayShell
from forebay.simulator.shell.standing import StandingFleet
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
    """Runs the scenario; `watch` hears now and then how many rows have ended.

    Equal scenarios give equal results. Raises ConfigError for a policy that does not exist or takes no such parameter.
    """
    workload = scenario.workload
    context = Context(workload, scenario.world, make_kernel(len(workload), kernel), scenario.seed, journal)
    gateway_config = from_mapping(GatewayConfig, scenario.policy.gateway, "gateway")
    scheduler_config = from_mapping(SchedulerConfig, scenario.policy.scheduler, "scheduler")
    requests = Requests(workload, gateway_config.prompt_head_bytes)
    clients = Clients(context, requests)
    predictor = _predictor(context, scenario, scheduler_config.outcome_interval_s)
    scheduler = SchedulerShell(context, _scheduler(scheduler_config), scheduler_config, predictor)
    gateway = GatewayShell(context, GatewayEngine(gateway_config), gateway_config, requests, clients, Prefixes(context))
    fleet = StandingFleet(context)
    clients.connect(gateway)
    gateway.connect(scheduler, fleet)
    scheduler.connect(gateway, fleet)
    fleet.begin(scheduler, gateway)
    gateway.begin()
    scheduler.begin()
    predictor.begin()
    Simulation(context, clients, gateway, watch).run()
    return _result(scenario, context, requests)


def _scheduler(config: SchedulerConfig) -> SchedulerEngine:
    kinds = {kind: with_plugins(kind, policies) for kind, policies in KINDS.items()}
    return SchedulerEngine(config, build(config, kinds))


def _predictor(context: Context, scenario: Scenario, interval_s: float) -> PredictorShell | NoPredictor:
    table = dict(scenario.policy.predictor)
    if table.get("length") == NO_PREDICTOR:
        return NoPredictor()
    config = from_mapping(PredictorConfig, table, "predictor")
    return PredictorShell(context, build_engine(config), interval_s)


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
