"""Puts a run together from a scenario and runs it: the composition root of the simulator."""

from collections.abc import Callable

from forebay.core.config import from_mapping
from forebay.core.units import US_PER_S
from forebay.gateway.config import Config as GatewayConfig
from forebay.gateway.engine import Engine as GatewayEngine
from forebay.predictor.engine import PredictorEngine
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.scheduler.engine import Engine as SchedulerEngine
from forebay.simulator.kernel import make_kernel
from forebay.simulator.kernel.base import Kernel
from forebay.simulator.oracles.predictor import forecasts_of
from forebay.simulator.parts import (
    Scenario,
    autoscaler_of,
    lengths_of,
    policies_of,
    predictor_config,
    predictor_of,
    result_of,
)
from forebay.simulator.profiles import profile_of
from forebay.simulator.results import RunResult
from forebay.simulator.shell.autoscaling_forecasts import RunForecasts
from forebay.simulator.shell.checks import Checks
from forebay.simulator.shell.clients import Clients
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.deciding import Deciding
from forebay.simulator.shell.fleet import LiveFleet
from forebay.simulator.shell.fleet_plan import make_plan
from forebay.simulator.shell.journal import Journal
from forebay.simulator.shell.loop import Simulation
from forebay.simulator.shell.moving import Moving, movable
from forebay.simulator.shell.prefilling import PrefillKernel
from forebay.simulator.shell.prefixes import Prefixes
from forebay.simulator.shell.requests import Requests
from forebay.simulator.shell.scheduling import SchedulerShell
from forebay.simulator.shell.serving import GatewayShell

__all__ = ["Scenario", "simulate"]


def simulate(
    scenario: Scenario,
    *,
    kernel: str | Kernel = "fast",
    journal: Journal | None = None,
    watch: Callable[[int], None] | None = None,
    check: bool = False,
) -> RunResult:
    """Runs the scenario; `watch` hears now and then how many rows have ended.

    `kernel` is one without instances, or the name of one. `journal` keeps what every engine was told and answered, and
    `check` looks at every invariant after every event and raises Broken where one does not hold.

    Equal scenarios give equal results. Raises ConfigError for a policy that does not exist or takes no such parameter.
    """
    workload = scenario.workload
    engines = make_kernel(len(workload), kernel) if isinstance(kernel, str) else kernel
    prefills = PrefillKernel(engines, len(workload)) if scenario.world.prefill else None
    scheduler_config = from_mapping(SchedulerConfig, scenario.policy.scheduler, "scheduler")
    policies = policies_of(scheduler_config)
    movers = movable(engines, bool(prefills)) if policies.rescheduler.period_s else None
    context = Context(workload, scenario.world, movers or prefills or engines, profile_of, scenario.seed, journal)
    if prefills:
        prefills.begin(context)
    gateway_config = from_mapping(GatewayConfig, scenario.policy.gateway, "gateway")
    requests = Requests(workload, gateway_config.prompt_head_bytes)
    clients = Clients(context, requests)
    predictor = predictor_of(scenario)
    lengths = lengths_of(context, scenario, predictor, scheduler_config)
    engine = SchedulerEngine(scheduler_config, policies)
    scheduler = SchedulerShell(context, engine, scheduler_config, lengths, policies.planner)
    gateway = GatewayShell(context, GatewayEngine(gateway_config), gateway_config, requests, clients, Prefixes(context))
    fleet = _fleet(context, scenario, predictor, scheduler_config)
    clients.connect(gateway)
    gateway.connect(scheduler, fleet)
    answers = Deciding(context, gateway) if scenario.world.network.decision_ms else gateway
    checks = Checks(context, scheduler, gateway, answers, clients, requests) if check else None
    scheduler.connect(checks or answers, fleet)
    fleet.begin(scheduler, gateway)
    gateway.begin()
    if movers:
        scheduler.move_by(Moving(context, movers, gateway, scheduler))
    scheduler.begin()
    lengths.begin()
    Simulation(context, clients, checks or gateway, watch, checks.look if checks else None).run()
    if checks:
        checks.conclude()
    return result_of(scenario, context, requests)


def _fleet(context: Context, scenario: Scenario, predictor: PredictorEngine, scheduler: SchedulerConfig) -> LiveFleet:
    plan = make_plan(scenario.world, scenario.policy.autoscaler, context.machines)
    policy = autoscaler_of(plan.config)
    config = predictor_config(scenario)
    models = tuple(dict.fromkeys(group.model for group in plan.scaled.values()))
    delay_us = round(scenario.world.network.refit_s * US_PER_S)
    forecast, settle = forecasts_of(config, predictor, scenario.workload, delay_us)
    settle_us = round(config.history_settle_s * US_PER_S)
    forecasts = RunForecasts(
        policy.needs, models, forecast, config.history_s, config.history_points_max, settle, settle_us
    )
    return LiveFleet(context, plan, policy, forecasts, scheduler.watch_interval_s)
