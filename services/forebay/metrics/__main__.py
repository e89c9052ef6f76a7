"""Starts the metrics service: `python -m forebay.metrics`."""

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import AsyncExitStack

import click
import grpc
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub
from lmaas.metrics.v1.metrics_service_pb2_grpc import add_MetricsServiceServicer_to_server
from prometheus_client import CollectorRegistry

from forebay import sql
from forebay.core.metrics import RequestRecord
from forebay.metrics.config import Config
from forebay.metrics.engine import MetricsEngine
from forebay.metrics.loop import Prober, follow_fleet, prune, publish
from forebay.metrics.page.config import PageConfig
from forebay.metrics.page.server import Page
from forebay.metrics.prometheus import RequestStats, SnapshotGauges
from forebay.metrics.servicer import SERVICE, MetricsServicer
from forebay.metrics.store_sql import SqlStore
from forebay.metrics.writer import Writer
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.discovery import Discovery
from forebay.wire.main import Environment, environment, run, section
from forebay.wire.server import Server, run_until_stopped, serve_prometheus
from forebay.wire.tracing_setup import open_tracer


@click.command()
@click.option("--config", type=click.Path(), help="TOML file with a [metrics] section.")
def main(config: str | None) -> None:
    """Collects what happens, keeps it, and tells it."""
    env = environment("127.0.0.1:7104", "127.0.0.1:7204")
    for name in ("httpx", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    run(lambda: serve(config, env), env)


async def serve(path: str | None, env: Environment) -> None:
    """Runs the service until it is told to stop."""
    config = section(path, "metrics", Config)
    database = await asyncio.to_thread(sql.open_engine, env.database_url, env.database_wait_s)
    store = await asyncio.to_thread(SqlStore, database)
    registry = CollectorRegistry()
    engine = MetricsEngine(config.unreachable_after_count, config.queue_stale_after_us)
    writer = Writer(store, config.buffer_count_max, config.batch_count_max)
    server = Server(env.listen, [SERVICE], registry, tracer=open_tracer("metrics", env.listen, registry))
    gauges = SnapshotGauges(registry)
    serve_prometheus(env.prometheus, registry)
    prober = Prober(engine, config, now_us)
    async with AsyncExitStack() as stack:
        autoscaler = await stack.enter_async_context(connect(env.autoscaler))
        schedulers = await stack.enter_async_context(Discovery(env.schedulers, now_us))
        predictor = await stack.enter_async_context(connect(env.predictor))
        page = make_page(config.page, env, engine, store, schedulers, autoscaler, predictor)
        loops: list[Awaitable[None]] = [
            writer.run(),
            follow_fleet(AutoscalerServiceStub(autoscaler), prober, config.fleet_retry_s),
            publish(engine, gauges, now_us),
            prune(store, config, now_us),
        ]
        stats, watch = RequestStats(registry, config.page.promises()), page.observe if page else ignore
        servicer = MetricsServicer(engine, writer, store, stats, now_us, watch)
        add_MetricsServiceServicer_to_server(servicer, server.grpc)

        async def close() -> None:
            if page:
                await page.stop()
            await writer.close()

        loops += [page.run(), schedulers.run()] if page else []
        await run_until_stopped(server, loops, config.shutdown_grace_s, closing=close)
        await prober.close()
    database.dispose()


def make_page(
    config: PageConfig,
    env: Environment,
    engine: MetricsEngine,
    store: SqlStore,
    schedulers: Discovery,
    autoscaler: grpc.aio.Channel,
    predictor: grpc.aio.Channel,
) -> Page | None:
    """The live page; None where its address is empty."""
    if not env.page:
        return None
    others = {"autoscaler": (env.autoscaler, autoscaler), "predictor": (env.predictor, predictor)}
    return Page(env.page, config, engine, store, schedulers.channels, others, env.http, now_us)


def ignore(_: RequestRecord) -> None:
    """Where there is no page nobody looks."""


if __name__ == "__main__":
    main()
