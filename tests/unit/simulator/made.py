"""Runs made by hand, for tests of what comes after a run."""

import numpy as np
import numpy.typing as npt

from forebay.core.values import SloClass
from forebay.simulator.config import Group, World
from forebay.simulator.results import FleetChange, RequestColumns, RunResult

S = 1_000_000
FINISHED, REJECTED, FAILED, UNFINISHED = range(4)
PLAIN = {
    "held_us": 0,
    "status": FINISHED,
    "slo_class": int(SloClass.INTERACTIVE_NORMAL),
    "model": 0,
    "tenant": 0,
    "region": 0,
    "program": -1,
    "instance": 0,
    "prompt_tokens": 100,
    "output_tokens": 11,
    "hit_tokens": 0,
    "predicted_p50": -1,
    "predicted_p90": -1,
    "preemption_count": 0,
    "lost_tokens": 0,
    "gap_us": -1,
    "attempt_count": 1,
    "deadline_us": 0,
}
WORLD = World(groups=(Group(model="m", profile="H100/Llama-3-8B/tp1", gpu_hour_price=2.0),))


def columns(
    arrival_us: npt.ArrayLike, first_us: npt.ArrayLike, finish_us: npt.ArrayLike, **given: npt.ArrayLike
) -> RequestColumns:
    arrivals = np.array(arrival_us, dtype=np.int64)
    filled = {
        name: np.array(given.get(name, np.full(len(arrivals), value)), dtype=np.int64) for name, value in PLAIN.items()
    }
    return RequestColumns(arrivals, np.array(first_us, dtype=np.int64), np.array(finish_us, dtype=np.int64), **filled)


def change(at_s: float, instance_id: str, state: str, gpu_count: int = 1, model: str = "m") -> FleetChange:
    return FleetChange(round(at_s * S), instance_id, model, "local", "H100", gpu_count, state)


def result(
    requests: RequestColumns,
    changes: tuple[FleetChange, ...] = (),
    end_s: float = 3600.0,
    instances: tuple[str, ...] = ("a/m",),
    name: str = "arm",
    seed: int = 1,
    load: float = 1.0,
) -> RunResult:
    return RunResult(
        name,
        seed,
        load,
        round(end_s * S),
        requests,
        ("m",),
        ("default",),
        ("local",),
        instances,
        changes,
        {"decisions": 1.0},
        {},
    )


def drawn(name: str, seed: int, load: float = 1.0, count: int = 400, ttft_s: float = 0.3) -> RunResult:
    """A run with random latencies around `ttft_s` on two instances, one of which is added half-way."""
    rng = np.random.default_rng([seed, count])
    arrival = np.sort(rng.integers(0, 3_000 * S, count))
    first = arrival + (rng.gamma(2.0, ttft_s * load / 2, count) * S).astype(np.int64)
    output = rng.integers(1, 400, count)
    finish = first + output * 20_000
    predicted = np.maximum(1, (output * rng.lognormal(0, 0.4, count)).astype(np.int64))
    rows = columns(
        arrival,
        first,
        finish,
        output_tokens=output,
        slo_class=rng.integers(1, 4, count),
        instance=rng.integers(0, 2, count),
        predicted_p50=predicted,
        predicted_p90=2 * predicted,
        status=(rng.random(count) < 0.02).astype(np.int64),
    )
    changes = (change(0, "a/m", "READY"), change(1500, "b/m", "LOADING"), change(1560, "b/m", "READY"))
    return result(rows, changes, 3600.0, ("a/m", "b/m"), name, seed, load)
