"""Starts the metrics service: `python -m forebay.metrics`."""

import asyncio
import logging

import click
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub
from lmaas.metrics.v1.metrics_service_pb2_grpc import add_MetricsServiceServicer_to_server
from prometheus_client import CollectorRegistry

from forebay import sql
from forebay.metrics.config import Config
from forebay.metrics.engine import MetricsEngine
from forebay.metrics.loop import Prober, follow_fleet, prune, publish
from forebay.metrics.prometheus import RequestStats, SnapshotGauges
from forebay.metrics.servicer import SERVICE, MetricsServicer
from forebay.metrics.store_sql import SqlStore
from forebay.metrics.writer import Writer
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.main import Environment, environment, run, section
from forebay.wire.server import Server, run_until_stopped, serve_prometheus
from forebay.wire.tracing_setup import open_tracer


@click.command()
@click.option("--config", type=click.Path(), help="TOML file with a [metrics] section.")
def main(config: str | None) -> None:
    """Collects what happens, keeps it, and tells it."""
    env = environment("127.0.0.1:7104", "127.0.0.1:7204")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    run(lambda: serve(config, env), env)


async def serve(path: str | None, env: Environment) -> None:
    """Runs the service until it is told to stop."""
    config = section(path, "metrics", Config)
    database = await asyncio.to_thread(sql.open_engine, env.database_url)
    store = await asyncio.to_thread(SqlStore, database)
    registry = CollectorRegistry()
    engine = MetricsEngine(config.unreachable_after_count, config.queue_stale_after_us)
    writer = Writer(store, config.buffer_count_max, config.batch_count_max)
    server = Server(env.listen, [SERVICE], registry, tracer=open_tracer("metrics", env.listen, registry))
    servicer = MetricsServicer(engine, writer, store, RequestStats(registry), now_us)
    add_MetricsServiceServicer_to_server(servicer, server.grpc)
    gauges = SnapshotGauges(registry)
    serve_prometheus(env.prometheus, registry)
    prober = Prober(engine, config, now_us)
    async with connect(env.autoscaler) as channel:
        loops = [
            writer.run(),
            follow_fleet(AutoscalerServiceStub(channel), prober, config.fleet_retry_s),
            publish(engine, gauges, now_us),
            prune(store, config, now_us),
        ]
        await run_until_stopped(server, loops, config.shutdown_grace_s, closing=writer.close)
        await prober.close()
    database.dispose()


if __name__ == "__main__":
    main()
