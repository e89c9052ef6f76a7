"""Starts the gateway: `python -m forebay.gateway`."""

import logging
import socket
from contextlib import AsyncExitStack

import click
from prometheus_client import CollectorRegistry

from forebay import sql
from forebay.core.tokens import TokenEstimator
from forebay.gateway.config import Config
from forebay.gateway.deferred.part import Deferred
from forebay.gateway.deferred.store import Store
from forebay.gateway.deferred.store_sql import SqlStore
from forebay.gateway.engine import Engine
from forebay.gateway.intake import Intake
from forebay.gateway.kserve import KServe
from forebay.gateway.loop import Loop
from forebay.gateway.meters import Meters
from forebay.gateway.openai import OpenAi
from forebay.gateway.picker.endpoints import Endpoints
from forebay.gateway.picker.servicer import SERVICE, PickerServicer
from forebay.gateway.picker.stream import Parts
from forebay.gateway.pool import PoolGauges
from forebay.gateway.relay import Relay
from forebay.gateway.server import Fronts, prepare_process
from forebay.gateway.upstream import Upstream
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.discovery import Discovery
from forebay.wire.main import Environment, environment, run, section
from forebay.wire.reporter import Reporter
from forebay.wire.server import run_until_stopped, serve_prometheus
from forebay.wire.tracing_setup import open_tracer


@click.command()
@click.option("--config", type=click.Path(), help="TOML file with a [gateway] section.")
def main(config: str | None) -> None:
    """Speaks OpenAI's HTTP and KServe's gRPC, asks the scheduler where to go, and moves tokens."""
    env = environment("127.0.0.1:7081", "127.0.0.1:7205")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    run(lambda: serve(config, env), env)


async def serve(path: str | None, env: Environment) -> None:
    """Runs the gateway until it is told to stop."""
    config = section(path, "gateway", Config)
    prepare_process()
    registry, estimator = CollectorRegistry(), TokenEstimator()
    engine = Engine(config)
    upstream = Upstream(config, PoolGauges(engine, registry).reported)
    async with AsyncExitStack() as stack, connect(env.metrics) as metrics, connect(env.predictor) as predictor:
        schedulers = await stack.enter_async_context(Discovery(env.schedulers, now_us))
        reporter = Reporter(metrics)
        # The same name after a restart, so that the scheduler frees what the dead process had in flight.
        name = f"{socket.gethostname()}/{env.listen}"
        tracer = open_tracer("gateway", name, registry)
        loop = Loop(engine, schedulers.channels, reporter, Meters(registry), config, name, now_us, tracer)
        relay, intake = Relay(loop, upstream, estimator), Intake(config, estimator)
        deferred = Deferred(lambda: open_store(env.database_url), predictor, loop, relay, intake, config, name, now_us)
        openai = OpenAi(loop, relay, intake, config, now_us, deferred.routes())
        kserve = KServe(loop, relay, upstream, intake)
        endpoints = Endpoints(config.picker.resolve_s, now_us)
        picker = PickerServicer(Parts(loop, intake, estimator, endpoints, config.keys(), config))
        names = (SERVICE, *deferred.names())
        fronts = Fronts(env.listen, env.http, openai, kserve, registry, names, config.keys(), tracer)
        picker.add_to(fronts)
        deferred.add_to(fronts.grpc)
        deferred.measure(registry)
        serve_prometheus(env.prometheus, registry)

        async def close() -> None:
            await deferred.close()
            await loop.flush()
            await reporter.flush()

        links = [schedulers.run(), loop.run_links()]
        loops = [loop.run_clock(), *links, loop.run_fleet(), reporter.run(), picker.run_health(fronts)]
        loops += deferred.loops()
        await run_until_stopped(fronts, loops, config.grace_s, closing=close)
    await upstream.close()


def open_store(url: str) -> Store:
    """The store of deferred work in the database of that URL. Raises ConfigError where it does not open."""
    return SqlStore(sql.open_engine(url))


if __name__ == "__main__":
    main()
