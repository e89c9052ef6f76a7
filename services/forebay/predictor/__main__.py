"""The predictor's composition root: `python -m forebay.predictor [--config FILE]`."""

import click
from lmaas.predictor.v1.predictor_service_pb2_grpc import add_PredictorServiceServicer_to_server
from prometheus_client import CollectorRegistry

from forebay import __version__
from forebay.predictor.build import build_engine, build_loader
from forebay.predictor.build_forecasts import build_forecasts
from forebay.predictor.build_recorder import build_keeper, build_recorder
from forebay.predictor.config import Config
from forebay.predictor.dynamo.part import Plugin
from forebay.predictor.dynamo.servicer import SERVICE as PLUGIN
from forebay.predictor.loop import MetricsHistory
from forebay.predictor.servicer import PredictorServicer
from forebay.wire import main as root
from forebay.wire.channel import connect
from forebay.wire.clock import now_us
from forebay.wire.server import PASSING, Server, run_until_stopped, serve_prometheus
from forebay.wire.tracing_setup import open_tracer

SERVICE = "lmaas.predictor.v1.PredictorService"


async def serve(config: Config, env: root.Environment) -> None:
    """Runs the service until it is told to stop. Raises ConfigError for a setting that cannot work."""
    registry = CollectorRegistry()
    engine = build_engine(config)
    loader = await build_loader(engine, config)
    channel = connect(env.metrics)
    history = MetricsHistory(channel, config.metrics_timeout_s, config.history_points_max)
    forecasts = build_forecasts(config, engine, history, now_us, registry)
    recorder = build_recorder(config, env.database_url, now_us, registry)
    keeper = build_keeper(config, env.database_url, env.database_wait_s, engine, now_us)
    if keeper is not None:
        await keeper.restore()
    lasting = [one for one in (recorder, keeper) if one is not None]
    keep = {} if recorder is None else {"keep": recorder.offer}
    tracer = open_tracer("predictor", env.listen, registry)
    servicer = PredictorServicer(engine, loader, forecasts, registry, now_us, tracer=tracer, **keep)
    plugin = Plugin(config, engine, now_us, __version__)
    server = Server(env.listen, [SERVICE, PLUGIN], registry, tracer=tracer, options=PASSING)
    add_PredictorServiceServicer_to_server(servicer, server.grpc)
    plugin.add_to(server.grpc)
    serve_prometheus(env.prometheus, registry)

    async def close() -> None:
        await plugin.close()
        await forecasts.close()
        await channel.close()
        for one in lasting:
            await one.flush()

    root.calm_collector()
    loops = [one.run() for one in (*lasting, plugin.registration) if one is not None]
    await run_until_stopped(server, loops, config.grace_s, close)


@click.command()
@click.option("--config", "path", type=click.Path(dir_okay=False), help="TOML file; section [predictor].")
def main(path: str | None) -> None:
    """Serve length predictions and workload forecasts."""
    env = root.environment("127.0.0.1:7102", "127.0.0.1:7202")

    async def start() -> None:
        await serve(root.section(path, "predictor", Config), env)

    root.run(start, env)


if __name__ == "__main__":
    main()
