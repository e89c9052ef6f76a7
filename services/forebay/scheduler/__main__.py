"""Starts the scheduler: `python -m forebay.scheduler`."""

from collections.abc import Coroutine
from typing import Any, NamedTuple

import click
from grpc.aio import Channel
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import add_SchedulerServiceServicer_to_server
from prometheus_client import CollectorRegistry

from forebay.core.errors import ConfigError
from forebay.plugins import with_plugins
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from forebay.scheduler.lengths import Outcomes, Predictions, PredictorLengths
from forebay.scheduler.loop import QueueSampler, follow_fleet, follow_loads
from forebay.scheduler.meters import Meters
from forebay.scheduler.planning import Planning
from forebay.scheduler.policy import KINDS, build
from forebay.scheduler.servicer import SERVICE, SchedulerServicer
from forebay.scheduler.shell import Shell
from forebay.scheduler.traces import Traces
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.main import Environment, calm_collector, environment, run, section
from forebay.wire.reporter import Reporter
from forebay.wire.server import Server, run_until_stopped, serve_prometheus
from forebay.wire.timer import Timer
from forebay.wire.tracing_setup import open_tracer


@click.command()
@click.option("--config", type=click.Path(), help="TOML file with a [scheduler] section.")
def main(config: str | None) -> None:
    """Decides for each request whether, when and where it runs."""
    env = environment("127.0.0.1:7101", "127.0.0.1:7201")
    run(lambda: serve(config, env), env)


async def serve(path: str | None, env: Environment) -> None:
    """Runs the service until it is told to stop."""
    config = section(path, "scheduler", Config)
    registry = CollectorRegistry()
    server = Server(env.listen, [SERVICE], registry, tracer=open_tracer("scheduler", env.listen, registry))
    serve_prometheus(env.prometheus, registry)
    async with (
        connect(env.predictor) as predictor,
        connect(env.autoscaler) as autoscaler,
        connect(env.metrics) as metrics,
    ):
        loops = assemble(config, server, registry, Neighbours(predictor, autoscaler, metrics))
        calm_collector()
        await run_until_stopped(server, loops, config.shutdown_grace_s)


class Neighbours(NamedTuple):
    """Channels to the other services."""

    predictor: Channel
    autoscaler: Channel
    metrics: Channel


def assemble(
    config: Config, server: Server, registry: CollectorRegistry, to: Neighbours
) -> list[Coroutine[Any, Any, None]]:
    """Puts the scheduler on a server and gives what must run beside it."""
    policies = build(config, {kind: with_plugins(kind, known) for kind, known in KINDS.items()})
    if policies.rescheduler.period_s:
        name = policies.names["rescheduler"]
        raise ConfigError(
            f"rescheduler {name!r} moves running requests, which no engine behind Triton can; leave rescheduler out of "
            "[scheduler], or compare it in the simulator (forebay compare)",
            violations={"scheduler.rescheduler": "only the simulator moves running requests"},
        )
    # Leases outlive a restart, so their names must differ from those of the run before.
    name = f"s{now_us():x}"
    outcomes, timer, meters = Outcomes(to.predictor, name, config.outcome_interval_s), Timer(now_us), Meters(registry)
    traces = Traces(server.tracer)
    lengths = PredictorLengths(Predictions(to.predictor, config, now_us, traces), outcomes)
    shell = Shell(Engine(config, policies, name), now_us, lengths, timer, meters, Planning(policies.planner), traces)
    timer.callback = shell.wake
    add_SchedulerServiceServicer_to_server(SchedulerServicer(shell, config), server.grpc)
    reporter = Reporter(to.metrics)
    return [
        follow_fleet(to.autoscaler, shell, config),
        follow_loads(to.metrics, shell, config),
        QueueSampler(shell, reporter, meters, name).run(config.queue_sample_interval_s),
        reporter.run(),
        outcomes.run(),
    ]


if __name__ == "__main__":
    main()
