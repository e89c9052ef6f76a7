"""Writes the configuration of a stack from the options of `forebay up`: which models, how many, how launched."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from forebay.core.errors import ConfigError
from forebay.core.instance.catalog import parse_profile_name
from forebay.core.instance.document import SUFFIX

EMULATED_MODELS = {"llama-8b": "A100-80G/Llama-3-8B/tp1", "qwen-7b": "A100-80G/Qwen2.5-7B/tp1"}
"""The models of the default fleet with their engine profiles."""
METRICS_TIMEOUT_S = 2.0
REAL_MODEL = "smollm2"
REAL_SLOTS = 4
REAL_CONTEXT_TOKENS = 2_048
CONCURRENCY_TARGET = 8.0
MODELS_FOLDER = "models"
"""Inside the state folder: what `forebay train length` makes, beside the models that ship."""
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """The fleet of a stack: emulated instances of each model, Tritons that run already, or a real one of our own."""

    emulated: Mapping[str, str] = field(default_factory=lambda: dict(EMULATED_MODELS))
    instance_count: int = 2
    instance_count_max: int = 4
    tritons: Sequence[str] = ()
    real: bool = False
    concurrency_target: float = CONCURRENCY_TARGET
    answers: Path | None = None


def triton_dir() -> Path:
    """Where `make triton` installs."""
    return Path(os.environ.get("FOREBAY_TRITON_DIR", str(ROOT / ".triton")))


def parse_models(text: str | None) -> dict[str, str]:
    """Models by name with their profiles, from a list such as `llama-8b,big=H100/Llama-3-70B/tp4`.

    Raises ConfigError for a name without a profile or a profile that the catalog does not know.
    """
    if not text:
        return dict(EMULATED_MODELS)
    found = {}
    for part in text.split(","):
        name, _, profile = part.strip().partition("=")
        profile = profile or EMULATED_MODELS.get(name, "")
        if not name or not profile:
            known = ", ".join(EMULATED_MODELS)
            raise ConfigError(
                f"--models: {part.strip()!r} needs a profile, as NAME=GPU/MODEL/tpN; without one: {known}"
            )
        found[name] = _checked(profile)
    return found


def _checked(profile: str) -> str:
    if profile.endswith(SUFFIX):
        # The instances are started elsewhere: a relative path would lead them astray.
        return str(Path(profile).resolve())
    try:
        parse_profile_name(profile)
    except ValueError as error:
        raise ConfigError(f"--models: {error}") from error
    return profile


def stack_toml(options: FleetOptions, state_dir: Path, instance_port: int) -> str:
    """The text of a forebay.toml for these options; every other setting keeps its default."""
    return "\n".join(_lines(options, state_dir, instance_port)) + "\n"


def _lines(options: FleetOptions, state_dir: Path, instance_port: int) -> Iterator[str]:
    yield "# Written by forebay up at every start. To change settings, copy this file and pass it with --config."
    yield "[predictor]"
    yield f"models_folder = {_quoted(state_dir.resolve() / MODELS_FOLDER)}\n"
    yield "[autoscaler]"
    yield f"state_dir = {_quoted(state_dir.resolve() / 'instances')}"
    yield f"port_base = {instance_port}"
    yield f"triton_start = {_quoted(ROOT / 'compose' / 'triton' / 'start.sh')}"
    if options.real:
        yield from _real_model()
    elif options.tritons:
        for number, address in enumerate(options.tritons, start=1):
            yield from _server(number, address)
    else:
        for name, profile in options.emulated.items():
            yield from _emulated_model(options, name, profile)


def _emulated_model(options: FleetOptions, name: str, profile: str) -> Iterator[str]:
    yield "\n[[autoscaler.models]]"
    yield f"name = {_quoted(name)}"
    yield 'launcher = "emulator"'
    yield f"profile = {_quoted(profile)}"
    yield f"instances_min = {options.instance_count}"
    yield f"instances_initial = {options.instance_count}"
    yield f"instances_max = {max(options.instance_count_max, options.instance_count)}"
    yield f"concurrency_target = {options.concurrency_target}"
    if options.answers is not None:
        yield f'arguments = ["--answers", {_quoted(options.answers)}]'


def _real_model() -> Iterator[str]:
    yield "\n[[autoscaler.models]]"
    yield f"name = {_quoted(REAL_MODEL)}"
    yield 'launcher = "triton"'
    yield "instances_max = 1"
    yield f"concurrency_target = {REAL_SLOTS}.0"
    yield f"concurrency_max = {REAL_SLOTS}"
    yield f"context_tokens_max = {REAL_CONTEXT_TOKENS}"


def _server(number: int, text: str) -> Iterator[str]:
    address, _, metrics_url = text.partition("=")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(
            f"--triton must be HOST:PORT of a Triton's gRPC, maybe with =URL of its metrics, not {text!r}"
        )
    # Triton's own default ports follow each other: gRPC, then metrics.
    metrics_url = metrics_url or _found(f"http://{host}:{int(port) + 1}/metrics")
    yield "\n[[autoscaler.servers]]"
    yield f"server_id = {_quoted(f'triton-{number}')}"
    yield f"grpc_address = {_quoted(address)}"
    yield f"metrics_url = {_quoted(metrics_url)}"


def _found(url: str) -> str:
    """The URL if a Triton's metrics are there, otherwise nothing."""
    try:
        page = httpx.get(url, timeout=METRICS_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return ""
    return url if page.status_code == httpx.codes.OK and "nv_inference" in page.text else ""


def _quoted(value: object) -> str:
    return json.dumps(str(value))
