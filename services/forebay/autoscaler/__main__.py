"""Starts the autoscaler: `python -m forebay.autoscaler`."""

import asyncio
import os
import socket
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

import click
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import add_AutoscalerServiceServicer_to_server
from lmaas.externalscaler.externalscaler_pb2_grpc import add_ExternalScalerServicer_to_server
from prometheus_client import CollectorRegistry

from forebay import sql
from forebay.autoscaler import keda, watchers
from forebay.autoscaler.actuator import Advisory
from forebay.autoscaler.advisor import Advisor, make_policy
from forebay.autoscaler.config import Config
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.keda_front import KedaFront
from forebay.autoscaler.launch import make_actuator
from forebay.autoscaler.leadership import Leadership
from forebay.autoscaler.leases import SchedulerWatch, watch_leases
from forebay.autoscaler.loop import Loop
from forebay.autoscaler.policy.autoscaler.base import Needs
from forebay.autoscaler.pressures import is_asked
from forebay.autoscaler.probe import Prober
from forebay.autoscaler.prometheus import FleetStats
from forebay.autoscaler.reign import Reign
from forebay.autoscaler.servicer import SERVICE, AutoscalerServicer
from forebay.autoscaler.store_sql import SqlStore
from forebay.autoscaler.writer import Writer
from forebay.core.errors import Unavailable
from forebay.core.fleet import FleetState
from forebay.core.units import US_PER_S
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.discovery import Discovery
from forebay.wire.main import Environment, environment, run, section
from forebay.wire.reporter import Reporter
from forebay.wire.server import Server, run_until_stopped, serve_prometheus
from forebay.wire.timer import Timer
from forebay.wire.tracing_setup import open_tracer

SHUTDOWN_GRACE_S = 2.0


@click.command()
@click.option("--config", type=click.Path(), help="TOML file with an [autoscaler] section.")
def main(config: str | None) -> None:
    """Plans how many instances each model has and owns the life of every one."""
    env = environment("127.0.0.1:7103", "127.0.0.1:7203")
    run(lambda: serve(config, env), env)


async def serve(path: str | None, env: Environment) -> None:
    """Runs the service until it is told to stop; the instances live on."""
    config = section(path, "autoscaler", Config)
    policy, actuator = make_policy(config.policy, config.parameters), make_actuator(config, dict(os.environ))
    database = await asyncio.to_thread(sql.open_engine, env.database_url, env.database_wait_s)
    store = await asyncio.to_thread(SqlStore, database, config.decision_count_max)
    registry = CollectorRegistry()
    tracer = open_tracer("autoscaler", env.listen, registry)
    server = Server(env.listen, [SERVICE, keda.SERVICE], registry, tracer=tracer)
    leadership = Leadership(store, reached_at(env.listen, server.port), config.lease_s, now_us)
    writer = Writer(store, config.decision_count_max, leadership)

    def make_engine(state: FleetState) -> Engine:
        return Engine(config, policy, state, now_us())

    serve_prometheus(env.prometheus, registry)
    async with AsyncExitStack() as stack, connect(env.predictor) as predictor, connect(env.metrics) as metrics:
        schedulers = await stack.enter_async_context(Discovery(env.schedulers, now_us))
        reporter, watch = Reporter(metrics), SchedulerWatch(schedulers.channels, now_us)
        actuators = {"active": actuator, "advisory": Advisory(actuator)}
        timer = Timer(now_us)
        loop = Loop(
            make_engine(await asyncio.to_thread(store.load)),
            actuators,
            writer,
            reporter,
            FleetStats(registry),
            lambda: watch.answers,
            now_us,
            timer,
            leadership,
        )
        timer.callback = loop.wake

        def make_ear() -> watchers.PressureWatch:
            return watchers.PressureWatch(schedulers.channels, round(config.snapshot_age_s_max * US_PER_S))

        def forecaster_of(needs: Needs) -> watchers.Forecaster:
            models = [model.name for model in config.models]
            return watchers.Forecaster(predictor, models, needs, lambda: loop.engine.demands())

        add_AutoscalerServiceServicer_to_server(AutoscalerServicer(loop, Advisor(forecaster_of, make_ear)), server.grpc)
        scaler = KedaFront(keda.KedaServicer(loop, config.models), leadership)
        add_ExternalScalerServicer_to_server(scaler, server.grpc)

        def works() -> list[Coroutine[Any, Any, None]]:
            return [
                loop.tick(config.tick_s, forecaster_of(policy.needs)),
                loop.survey(),
                Prober(loop, config).run(),
                watch_leases(loop, watch),
                watchers.watch_snapshots(loop, metrics, watch),
                watchers.find_instances(loop, config.servers),
                *([make_ear().run(loop)] if is_asked(policy.needs, config) else []),
            ]

        reign = Reign(leadership, loop, store.load, make_engine, works, config.lease_s)

        async def close() -> None:
            await reign.close()
            await loop.close()
            with suppress(Unavailable):
                await leadership.resign()

        await reign.step()
        loops = [reign.run(), writer.run(), reporter.run(), watch.run(), schedulers.run()]
        await run_until_stopped(server, loops, SHUTDOWN_GRACE_S, closing=close)
        await actuator.close()
    database.dispose()


def reached_at(listen: str, port: int) -> str:
    """Where others reach what listens there: an address that stands for all of a machine's gets its name."""
    host = listen.rpartition(":")[0]
    return f"{socket.gethostname() if host in ('', '0.0.0.0', '[::]') else host}:{port}"


if __name__ == "__main__":
    main()
