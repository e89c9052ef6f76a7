"""A compressed day: its requests, its world in the simulator, the policies' tables, and what a fleet was used for."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from forebay.autoscaler.config import LEASES_S
from forebay.core.promises import Promise, Promises
from forebay.core.units import US_PER_S
from forebay.simulator.config import EngineConfig, Group, ObservationConfig, PolicyConfig, StartConfig, World
from forebay.simulator.parts import Scenario
from forebay.simulator.results import STATUSES, FleetChange, RunResult
from forebay.simulator.run import simulate
from forebay.simulator.traces import read
from forebay.simulator.usage import Stay, find_stays
from forebay.simulator.workload.base import Workload, change
from forebay.simulator.workload.combine import merge, moved
from forebay.simulator.workload.generators import make_generator

ROOT = Path(__file__).resolve().parents[1]
TRACES = Path(os.environ.get("FOREBAY_DATA", ROOT.parent / "shared" / "data")) / "open" / "traces"
DAY_S = 86_400.0
US_PER_HOUR = 3_600 * US_PER_S
SEEDS = (1, 2, 3)
WINDOW_COUNT = 24
"""Of a day: as long as an hour of it is a window of the forecasts."""
OBSERVED_AGE_S = 0.9
"""How old what the live autoscaler knows of instances is when it thinks: they are read every second, and told every
second."""
PROBE_STARTING_S, DRAIN_QUIET_S = 0.3, 1.0
ANSWERS = "answers.jsonl"
"""The file, in the folder of a day, that tells emulated instances how long their answers are."""
POLICIES = ("kpa", "preserve_paper", "forebay")


@dataclass(frozen=True, slots=True)
class Source:
    """A production service of ServeGen: its file, how many requests its first day had, and the hour of the day at which
    a generated stand-in is lowest."""

    path: str
    request_count: float
    trough_h: float


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the day: requests a live second on average, what an instance is, and how one comes to be.

    `rates` are what one instance serves within the promises (`forebay profile`), `launch` are further keys of
    [[autoscaler.models]] that only the live autoscaler needs.
    """

    name: str
    profile: str
    per_s: float
    source: Source
    rates: Mapping[str, float]
    concurrency_target: float
    instances_max: int
    seats: int
    prompt_max: int
    output_max: int
    launch: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setup:
    """What runs: models, limits of their engines, what is promised, and how long a start is said to take at first."""

    title: str
    models: tuple[Model, ...]
    engine: EngineConfig
    promise: Promise
    start_s: float
    servers: tuple[Mapping[str, object], ...] = ()

    @property
    def promises(self) -> Promises:
        """The promises of all classes."""
        return Promises(interactive_normal=self.promise)


@dataclass(frozen=True, slots=True)
class Lead:
    """How starts went, as measured: until the server answers, from then until the model does, and how much they vary.

    `stop_s` is what ends take: until a drained server that was told to end is gone.
    """

    provision_s: float
    load_s: float
    variation: float
    start_count: int
    stop_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Served:
    """One request as its client saw it: whether its answer came to its end, and when its tokens came."""

    ok: bool
    ttft_s: float
    tpot_s: float


# Requests


def make_day(setup: Setup, live_s: float, seed: int) -> Workload:
    """A day of all models in `live_s` seconds: arrivals of the whole day, thinned and pushed together, lengths cut."""
    return merge([_of_model(model, live_s, seed) for model in setup.models])


def _of_model(model: Model, live_s: float, seed: int) -> Workload:
    count, path = model.per_s * live_s, TRACES / model.source.path
    if path.exists():
        day = read("servegen", path, scale=count / model.source.request_count, end_s=DAY_S, seed=seed)
    else:
        options = {"rate_per_s": count / DAY_S, "duration_s": DAY_S, "trough_s": 3_600.0 * model.source.trough_h}
        day = make_generator("diurnal", options).generate(seed)
    day = moved(day, (day.arrival_us * (live_s / DAY_S)).astype(np.int64))
    return change(
        day,
        prompt_tokens=np.minimum(day.prompt_tokens, model.prompt_max),
        output_tokens=np.minimum(day.output_tokens, model.output_max),
        models=(model.name,),
    )


# Policies


def arms(setup: Setup, live_s: float) -> dict[str, PolicyConfig]:
    """The policies with their tables of forebay.toml; every span is a share of the day, whatever that lasts."""
    window_s = live_s / WINDOW_COUNT
    chosen: Sequence[Mapping[str, object]] = (
        {"stable_window_s": live_s / 24, "panic_window_s": live_s / 96},
        {"window_s": window_s},
        {"window_s": window_s, "window_count": 4, "reaction_s": window_s},
    )
    return {name: _arm(setup, name, one, window_s) for name, one in zip(POLICIES, chosen, strict=True)}


def _arm(setup: Setup, name: str, parameters: Mapping[str, object], window_s: float) -> PolicyConfig:
    autoscaler = {
        "policy": name,
        "parameters": parameters,
        "tick_s": 1.0,
        "probe_starting_s": PROBE_STARTING_S,
        "drain_quiet_s": DRAIN_QUIET_S,
        "settled_s": window_s,
        "promises": asdict(setup.promises),
        "models": [_pool(setup, model) for model in setup.models],
    }
    scheduler = {"router": "least_requests", "puller": "unlimited", "hold_timeout_interactive_normal_s": 300.0}
    predictor = {
        "length": "histogram",
        "forecaster": "last_value",
        "history_settle_s": window_s,
        "refit_s": 2 * window_s,
    }
    gateway = {"first_token_timeout_s": 300.0, "inter_token_timeout_s": 120.0}
    return PolicyConfig(name, scheduler, autoscaler, predictor, gateway)


def _pool(setup: Setup, model: Model) -> dict[str, object]:
    return {
        "name": model.name,
        "instances_min": 1,
        "instances_initial": 1,
        "instances_max": model.instances_max,
        "concurrency_target": model.concurrency_target,
        "start_s": setup.start_s,
        **model.rates,
    }


def live_toml(setup: Setup, arm: PolicyConfig, state_dir: Path) -> str:
    """The arm as a forebay.toml: what the simulator is told, and how instances come to be."""
    models: Any = arm.autoscaler["models"]
    launched = [
        {
            **table,
            "profile": model.profile,
            "concurrency_max": model.seats,
            "kv_tokens_max": setup.engine.kv_tokens,
            "context_tokens_max": setup.engine.model_tokens_max,
            **_in_folder(model.launch, state_dir),
        }
        for table, model in zip(models, setup.models, strict=True)
    ]
    more = {"state_dir": str(state_dir / "instances"), "port_base": 0, "servers": list(setup.servers)}
    autoscaler = {**arm.autoscaler, **more, "models": launched}
    sections = {
        "autoscaler": autoscaler,
        "scheduler": arm.scheduler,
        "predictor": arm.predictor,
        "gateway": arm.gateway,
    }
    lines = []
    for section, table in sections.items():
        lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def _in_folder(launch: Mapping[str, object], folder: Path) -> dict[str, object]:
    """The keys with the folder of the day filled in."""
    arguments: Any = launch.get("arguments", ())
    filled = [word.replace(ANSWERS, str(folder / ANSWERS)) for word in arguments]
    return {**launch, **({"arguments": filled} if filled else {})}


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


# The simulator


def simulated(setup: Setup, arm: PolicyConfig, day: Workload, lead: Lead, seed: int) -> RunResult:
    """The same day with the same tables in virtual time, with starts as they were measured."""
    return simulate(Scenario(day, _world(setup, lead), arm, seed))


def _world(setup: Setup, lead: Lead) -> World:
    groups = tuple(
        Group(
            model=model.name,
            profile=model.profile,
            instances_min=1,
            instances_initial=1,
            instances_max=model.instances_max,
            concurrency_target=model.concurrency_target,
            concurrency_max=model.seats,
            **_rates(model),
        )
        for model in setup.models
    )
    start = StartConfig(
        provisioning_s=lead.provision_s,
        weights_gb_per_s=0.0,
        warm_s=lead.load_s,
        variation=lead.variation,
        stop_s=lead.stop_s,
    )
    return World(
        groups=groups,
        engine=setup.engine,
        start=start,
        slo=setup.promises,
        observation=ObservationConfig(delay_s=OBSERVED_AGE_S),
    )


def _rates(model: Model) -> dict[str, Any]:
    return dict(model.rates)


def measured_lead(changes: Sequence[FleetChange], last_us: Mapping[str, int]) -> Lead:
    """How starts and ends went that the autoscaler made, less what its own rhythm adds to them.

    That is half a `PROBE_STARTING_S` a start; of an end, counted from the last answer of the instance (`last_us`), the
    quiet time and half the interval at which leases are asked for.
    """
    stays = list(find_stays(changes))
    names = [stay.instance_id for stay in stays]
    steps = [{state: at_us for at_us, state in reversed(stay.steps)} for stay in stays]
    starts = [one for one in steps if "PROVISIONING" in one and "READY" in one]
    firsts = np.array([one.get("LOADING", one["READY"]) - one["PROVISIONING"] for one in starts]) / US_PER_S
    wholes = np.array([one["READY"] - one["PROVISIONING"] for one in starts]) / US_PER_S - PROBE_STARTING_S / 2
    provision_s = max(0.0, float(firsts.mean()) - PROBE_STARTING_S / 2)
    ends = [(key, one) for key, one in zip(names, steps, strict=True) if "DRAINING" in one and "STOPPED" in one]
    afters = [one["STOPPED"] - max(one["DRAINING"], last_us.get(key, 0)) for key, one in ends]
    stop_s = max(0.0, float(np.mean(afters)) / US_PER_S - DRAIN_QUIET_S - LEASES_S / 2) if afters else 0.0
    variation = float(wholes.std() / wholes.mean())
    return Lead(provision_s, float(wholes.mean()) - provision_s, variation, len(starts), stop_s)


# What a fleet was used for


@dataclass(frozen=True, slots=True)
class Use:
    """Of one model within the day: instance-hours by state, and instances that were asked for and sent away."""

    hours: Mapping[str, float]
    start_count: int
    drain_count: int

    @property
    def total(self) -> float:
        """Instance-hours in every state."""
        return sum(self.hours.values())


STATES = ("starting", "ready", "draining")
_STATE = {"PROVISIONING": "starting", "LOADING": "starting", "READY": "ready", "LOST": "ready", "DRAINING": "draining"}


def uses(changes: Iterable[FleetChange], live_s: float) -> dict[str, Use]:
    """What each model's instances were used for between 0 and the day's end."""
    end_us = round(live_s * US_PER_S)
    stays = list(find_stays(sorted(changes, key=lambda one: one.at_us)))
    return {
        model: _use([one for one in stays if one.model == model], end_us) for model in sorted({s.model for s in stays})
    }


def _use(stays: Sequence[Stay], end_us: int) -> Use:
    hours = dict.fromkeys(STATES, 0.0)
    for stay in stays:
        for state, start_us, stop_us in stay.spans(end_us):
            hours[_STATE[state]] += max(0, stop_us - max(0, start_us)) / US_PER_HOUR
    added = [stay.added_us for stay in stays if stay.added_us is not None]
    removed = [stay.removed_us for stay in stays if stay.removed_us is not None]
    return Use(hours, sum(0 <= at <= end_us for at in added), sum(0 <= at <= end_us for at in removed))


def served(result: RunResult) -> list[Served]:
    """The simulated requests."""
    rows = result.requests
    return [
        Served(
            int(status) == STATUSES.index("finished"),
            (first - arrival) / US_PER_S,
            (last - first) / US_PER_S / max(1, tokens - 1),
        )
        for status, arrival, first, last, tokens in zip(
            rows.status, rows.arrival_us, rows.first_us, rows.finish_us, rows.output_tokens, strict=True
        )
    ]


def attainment(requests: Sequence[Served], promise: Promise) -> float:
    """The share of all requests whose answers came as promised."""
    met = [one.ok and one.ttft_s <= promise.ttft_s and one.tpot_s <= promise.tpot_ms / 1e3 for one in requests]
    return float(np.mean(met))


def with_lengths(day: Workload, lengths: Mapping[int, tuple[int, int]]) -> Workload:
    """The day with the prompt and answer tokens that were counted, by row; rows without keep theirs."""
    prompts, outputs = day.prompt_tokens.copy(), day.output_tokens.copy()
    for row, (prompt, output) in lengths.items():
        prompts[row], outputs[row] = max(1, prompt), max(1, output)
    return change(day, prompt_tokens=prompts, output_tokens=outputs)


# What is emulated

CATALOG = "A40/Llama-2-7B/tp1"
SEATS, KV_TOKENS, CONTEXT_TOKENS = 8, 8_192, 2_048
COLD_START = {"provisioning": 2.0, "weights": 4.0}
M_LARGE = Source("servegen_m-large_rates_day01-10.parquet", 24.14e6, 4.0)
DEEPSEEK_R1 = Source("servegen_deepseek-r1_rates.parquet", 1.391e6, 10.0)


def emulated() -> Setup:
    """Two services of ServeGen on emulated engines of eight seats; rates are those that `forebay profile` prints for
    `--profile A40/Llama-2-7B/tp1 --max-seqs 8 --kv-tokens 8192 --ttft 4 --itl 100 --heavy 1` with their
    lengths."""
    phases = ",".join(f"{phase}={seconds:g}" for phase, seconds in COLD_START.items())
    settings = {"max_seqs": SEATS, "kv_tokens": KV_TOKENS, "model_tokens_max": CONTEXT_TOKENS}
    arguments = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    plain = Model(
        name="m-large",
        profile=CATALOG,
        per_s=1.5,
        source=M_LARGE,
        rates={"prompt_tokens_per_s": 318.0, "response_tokens_per_s": 92.0, "tokens_per_s": 410.0},
        concurrency_target=5.0,
        instances_max=8,
        seats=SEATS,
        prompt_max=1_024,
        output_max=512,
        launch={
            "launcher": "emulator",
            "arguments": [*arguments, "--cold-start", phases, "--coalesce-ms", "100", "--answers", ANSWERS],
        },
    )
    reasoning = replace(
        plain,
        name="deepseek-r1",
        per_s=0.45,
        source=DEEPSEEK_R1,
        rates={"prompt_tokens_per_s": 85.0, "response_tokens_per_s": 96.0, "tokens_per_s": 181.0},
    )
    engine = EngineConfig(max_seqs=SEATS, kv_tokens=KV_TOKENS, model_tokens_max=CONTEXT_TOKENS)
    start_s = sum(COLD_START.values()) + 1.5
    return Setup("emulated instances", (plain, reasoning), engine, Promise(ttft_s=4.0, tpot_ms=100.0), start_s)
