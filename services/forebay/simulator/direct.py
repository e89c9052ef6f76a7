"""The fast lane for comparing routers: a fixed fleet, every request placed at once, no service but a router."""

from collections.abc import Callable
from dataclasses import fields

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.gateway.config import Config as GatewayConfig
from forebay.scheduler.config import Config as SchedulerConfig
from forebay.scheduler.policy import choice
from forebay.simulator.config import Group, World
from forebay.simulator.direct_board import boards_of
from forebay.simulator.direct_heard import Heard
from forebay.simulator.direct_open import Open, OpenKernel
from forebay.simulator.kernel import make_kernel
from forebay.simulator.kernel.fast import FastKernel, covers
from forebay.simulator.kernel.reference import ReferenceKernel
from forebay.simulator.oracles import LENGTH_ORACLES
from forebay.simulator.parts import Scenario, lengths_of, policies_of, predictor_config, predictor_of, result_of
from forebay.simulator.profiles import profile_of
from forebay.simulator.results import RunResult
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.network import Network
from forebay.simulator.shell.requests import Requests
from forebay.simulator.shell.standing import start_all

NO_MATTER = ("groups", "engine", "network", "start", "observation", "clients", "slo")
"""What of a world is looked at by itself, or changes nothing here."""
PLAIN = World(groups=(Group("model", "GPU/MODEL/tp1"),))
STEADY = frozenset(LENGTH_ORACLES)
"""Predictors that learn nothing from outcomes: what they say may be asked before the run begins."""
STEADY_UNBOUNDED = frozenset({"input_ratio"})
"""Those of which that is true while their bounds learn nothing either."""


def simulate_direct(
    scenario: Scenario, *, kernel: str = "fast", watch: Callable[[int], None] = lambda _: None
) -> RunResult:
    """Gives what `simulate` gives where admission is open, the puller unlimited and nothing takes time but the engines,
    where nobody watches the instances and nobody reports progress; several times as fast.

    The autoscaler and gateway of the arm are left out. Raises ConfigError for a scenario that needs more than this.
    """
    config = from_mapping(SchedulerConfig, scenario.policy.scheduler, "scheduler")
    _refuse_more(scenario, config)
    workload, is_open = scenario.workload, _is_open(scenario)
    opened = _open_kernel(kernel, len(workload)) if is_open else None
    context = Context(workload, scenario.world, opened or make_kernel(len(workload), kernel), profile_of, scenario.seed)
    requests = Requests(workload, from_mapping(GatewayConfig, scenario.policy.gateway, "gateway").prompt_head_bytes)
    predictor, router = predictor_of(scenario), policies_of(config).router
    boards = boards_of(start_all(context), context)
    if opened is not None:
        Open(context, opened, requests, predictor, router, boards, watch).run()
    else:
        lengths = lengths_of(context, scenario, predictor, config)
        lengths.begin()
        Heard(context, requests, lengths, router, boards, watch).run()
    return result_of(scenario, context, requests)


def _is_open(scenario: Scenario) -> bool:
    """Whether nobody needs to hear of finishes, and engines are such as run in an open loop."""
    engine = scenario.world.engine
    length = scenario.policy.predictor.get("length")
    config = predictor_config(scenario)
    learns = config.calibration_window_count or config.drift_window_count
    is_steady = length in STEADY or (length in STEADY_UNBOUNDED and not learns)
    return is_steady and covers(engine.flags(), engine.batcher) and not engine.no_evict


def _open_kernel(name: str, row_count: int) -> OpenKernel:
    return FastKernel(row_count) if name == "fast" else ReferenceKernel(row_count)


def _refuse_more(scenario: Scenario, config: SchedulerConfig) -> None:
    """Raises ConfigError where the scenario has what this lane leaves out."""
    world = scenario.world
    for holds, what in (
        (choice(config, "admission").name == "open", 'set admission = "open" in [scheduler]'),
        (choice(config, "puller").name == "unlimited", 'set puller = "unlimited" in [scheduler]'),
        (not len(scenario.workload.parents), "the workload has closed loops"),
        (not _takes_time(scenario), "[network] and frontend_ms take time"),
        (not world.engine.prefix_cache_tokens, "[engine] has a prefix cache"),
        (not world.engine.model_tokens_max, "[engine] has model_tokens_max"),
    ):
        _need(holds, what)
    for field in fields(World):
        plain = field.name in NO_MATTER or getattr(world, field.name) == getattr(PLAIN, field.name)
        _need(plain, f"the world has {field.name}")


def _takes_time(scenario: Scenario) -> bool:
    world = scenario.world
    network = Network(world.network)
    pairs = [(region, group.region) for region in scenario.workload.regions for group in world.groups]
    far = any(network.round_trip_us(*pair) for pair in pairs)
    return bool(far or world.network.prediction_ms or world.network.decision_ms or world.engine.frontend_ms)


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise ConfigError(f"a direct run cannot do this: {what}; use simulate")
