"""Composition root of the emulator: a command line becomes one Triton without a GPU.

python -m forebay.emulator --model llama=H100/Llama-3-8B/tp1 --grpc-port 8001 --http-port 8000 --metrics-port 8002
"""

import asyncio
import json
import os
import signal
from pathlib import Path

import click
import uvloop
from prometheus_client import CollectorRegistry

from forebay.core.errors import ForebayError
from forebay.emulator.answers import Answers
from forebay.emulator.config import Config, Lengths
from forebay.emulator.emulator import Emulator
from forebay.emulator.faults import ScheduledFault, parse_fault_option
from forebay.emulator.options import parse_cold_start, parse_model, parse_pairs
from forebay.wire import logs
from forebay.wire.tracing_setup import open_tracer

CRASH_STATUS = 70


@click.command(context_settings={"show_default": True})
@click.option("--model", multiple=True, metavar="NAME[=PROFILE]", help="A model that is loaded at the start.")
@click.option("--available", multiple=True, metavar="NAME[=PROFILE]", help="A model that is loaded only on request.")
@click.option("--set", "setting", multiple=True, metavar="KEY=VALUE", help="A setting of all models: max_seqs=64.")
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--grpc-port", default=8001, help="Port of the gRPC service; 0 takes a free one.")
@click.option("--http-port", default=8000, help="Port of health and fault control; 0 takes a free one.")
@click.option("--metrics-port", default=8002, help="Port of the metrics; 0 takes a free one.")
@click.option("--time-scale", default=1.0, help="Emulated seconds a second.")
@click.option("--coalesce-ms", default=5.0, help="Shortest time between two responses of a model's requests.")
@click.option("--answers", type=click.Path(exists=True, dir_okay=False), help="JSON Lines with the true lengths.")
@click.option("--median-tokens", default=150.0, help="Median length of answers that the file does not know.")
@click.option("--cold-start", default="", metavar="PHASE=S,...", help="provisioning, image, runtime, weights; or auto.")
@click.option("--faults", multiple=True, metavar="NAME[=VALUE][@S]", help="crash, hang, slow=K, refuse=SHARE; S later.")
@click.option("--exit-timeout", default=30.0, help="Seconds that SIGTERM leaves to the requests in flight.")
@click.option("--log-level", default="WARNING", envvar="FOREBAY_LOG_LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
def main(
    model: tuple[str, ...],
    available: tuple[str, ...],
    setting: tuple[str, ...],
    host: str,
    grpc_port: int,
    http_port: int,
    metrics_port: int,
    time_scale: float,
    coalesce_ms: float,
    answers: str | None,
    median_tokens: float,
    cold_start: str,
    faults: tuple[str, ...],
    exit_timeout: float,
    log_level: str,
) -> None:
    """Run a server that speaks Triton's protocol with the timing of an LLM engine."""
    logs.configure(log_level, json_lines=False)
    try:
        settings = parse_pairs(setting)
        config = Config(
            models=tuple(parse_model(text, settings) for text in model),
            available=tuple(parse_model(text, settings) for text in available),
            host=host,
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_port=metrics_port,
            time_scale=time_scale,
            coalesce_us=round(1_000 * coalesce_ms),
            exit_timeout_s=exit_timeout,
            cold_start=parse_cold_start(cold_start),
            lengths=Lengths(median_tokens),
        )
        lines = Path(answers).read_text().splitlines() if answers else ()
        uvloop.run(serve(config, Answers(config.lengths, lines), [parse_fault_option(text) for text in faults]))
    except (ForebayError, ValueError) as error:
        raise click.ClickException(str(error)) from error


async def serve(config: Config, answers: Answers, faults: list[ScheduledFault]) -> None:
    """Serve until SIGTERM or SIGINT; the ports go to standard output as one line of JSON."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # Its own metrics stay Triton's: what became of the spans is not among them.
    tracer = open_tracer("emulator", f"{config.host}:{config.grpc_port}", CollectorRegistry())
    emulator = Emulator(config, answers, crash=lambda: os._exit(CRASH_STATUS), tracer=tracer)
    print(json.dumps(emulator.ports), flush=True)
    starting = asyncio.ensure_future(emulator.start(faults))
    waiting = asyncio.ensure_future(stopped.wait())
    await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        await waiting
    starting.cancel()
    await emulator.stop()


if __name__ == "__main__":
    main()
