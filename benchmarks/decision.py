"""How long one routing decision takes in process: the router alone, and the whole engine with its record of it.

The garbage collector is set as the service sets it.
Bar: p50 <= 0.3 ms and p99 <= 2 ms at about 100 instances; with the anticipated load of 5,000 requests in flight
p50 <= 50 us and p99 <= 500 us.
Run: PYTHONPATH=services:clients/python python -m benchmarks.decision [--quick] [--json FILE]
"""

import random
import time
from collections import deque
from dataclasses import replace

import click
import numpy as np

from benchmarks import common
from forebay.core.scheduling import Placement
from forebay.core.units import US_PER_S
from forebay.core.values import (
    InferenceRequest,
    Instance,
    InstanceState,
    LengthPrediction,
    LengthQuantiles,
    Outcome,
    SloClass,
)
from forebay.scheduler.anticipator import Anticipators
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from forebay.scheduler.leases import Lease
from forebay.scheduler.policy import build
from forebay.scheduler.policy.router import ROUTERS
from forebay.scheduler.policy.router.base import Observed, Router, RouteView
from forebay.wire.main import calm_collector

CROWD_COLUMNS = ("router", "arrive p50 us", "arrive p99 us", "lives/s")
PRESSURE_COLUMNS = ("instances", "in flight", "held", "groups", "p50 ms", "p99 ms", "first ms")
INSTANCE_COUNTS = (10, 100, 1_000)
IN_FLIGHT_EACH = 16
ANTICIPATING = ("forebay", "least_anticipated_peak", "llumnix", "maps", "preserve_artifact", "preserve_paper")
"""Routers that ask for the load that is expected: each request's row is kept for them."""
CROWD_EACH = 50
"""Requests in flight on each of 100 instances when those are timed: 5,000 in all."""
COLUMNS = (
    "instances",
    "router",
    "route p50 us",
    "route p99 us",
    "arrive p50 us",
    "arrive p99 us",
    "decisions/s",
    "lives/s",
    "x round_robin",
)


def fleet(count: int) -> list[Instance]:
    """Ready instances with room for more than they get."""
    return [
        Instance(
            f"i{number:04}/m",
            "m",
            f"127.0.0.1:{number}",
            f"i{number:04}",
            state=InstanceState.READY,
            concurrency_max=4 * IN_FLIGHT_EACH,
            context_tokens_max=8_192,
        )
        for number in range(count)
    ]


def route_view(count: int, chance: np.random.Generator) -> RouteView:
    """A fleet in the middle of its work, a tenth of it full."""
    eligible = chance.random(count) < 0.9
    in_flight = chance.integers(0, 2 * IN_FLIGHT_EACH, count)
    leases = [{one.placement.lease_id: one for one in map(lease, range(each))} for each in in_flight.tolist()]
    return RouteView(
        instance_ids=tuple(f"i{number:04}/m" for number in range(count)),
        eligible=eligible,
        eligible_count=int(eligible.sum()),
        concurrency_cap=np.full(count, 4 * IN_FLIGHT_EACH, dtype=np.int32),
        in_flight_count=in_flight,
        predicted_tokens=chance.integers(0, 200 * IN_FLIGHT_EACH, count),
        prompt_tokens_in_flight=500 * in_flight,
        prompt_tokens_pending=50 * in_flight,
        unseen_count=in_flight // 4,
        unseen_prompt_tokens=120 * in_flight,
        observed=Observed(eligible, in_flight, in_flight // 8, chance.random(count), np.full(count, 100_000)),
        turn_index=count // 2,
        prompt_tokens=500,
        predicted_length=LengthQuantiles(50, 150, 400, 700),
        slo_class=SloClass.INTERACTIVE_NORMAL,
        anticipated=Anticipators(leases),
    )


def lease(number: int) -> Lease:
    """A request in the middle of its answer."""
    placement = Placement(f"r{number}", f"l{number}", "", "i/m", "", LengthQuantiles(50, 150, 400, 700), "bench", 0)
    return Lease(placement, InferenceRequest(f"r{number}", "m", 500), "g", 0, 0, 0, 1 + number)


def time_router(router: Router, count: int, repetitions: int) -> list[float]:
    """Seconds of each routing decision, over a hundred different loads, or a few of a large fleet."""
    chance = np.random.default_rng(1)
    views = [route_view(count, chance) for _ in range(100 if count < 1_000 else 5)]
    for view in views:
        router.route(view)
    seconds = []
    for number in range(repetitions):
        view = views[number % len(views)]
        began = time.perf_counter()
        router.route(view)
        seconds.append(time.perf_counter() - began)
    return seconds


def time_engine(name: str, count: int, repetitions: int, each: int = IN_FLIGHT_EACH) -> tuple[list[float], float]:
    """Seconds of each arrival in steady state, and whole lives (arrive, progress, finish) a second."""
    config = Config(router=name)
    engine = Engine(config, build(config), "s")
    engine.on_fleet(fleet(count), 1)
    chance, running, seconds = random.Random(1), deque[str](), []
    warm = count * each
    began = 0.0
    for number in range(warm + repetitions):
        if number == warm:
            began = time.perf_counter()
        request = InferenceRequest(f"r{number}", "m", 500, tokens_max=1_000)
        median = chance.randint(20, 400)
        prediction = LengthPrediction(LengthQuantiles(median // 2, median, 2 * median, 3 * median), 0.0, 0.0, "bench")
        now_us = number * 500
        start = time.perf_counter()
        placement = engine.on_arrive(request, prediction, now_us)[0]
        seconds.append(time.perf_counter() - start)
        assert isinstance(placement, Placement)
        running.append(placement.lease_id)
        if len(running) > warm:
            engine.on_progress(running[len(running) // 2], 10, now_us)
            engine.on_finish(running.popleft(), Outcome.STOPPED, median, now_us)
    return seconds[warm:], repetitions / (time.perf_counter() - began)


def crowd(name: str, repetitions: int) -> list[float]:
    """Percentiles of an arrival's microseconds, and lives a second, on instances that are full of requests."""
    arrivals, lives_per_s = time_engine(name, 100, repetitions, CROWD_EACH)
    return [*common.percentiles(arrivals), lives_per_s]


def time_pressure(count: int, held_count: int) -> list[common.Cell]:
    """Milliseconds of what the autoscaler asks each second, on full instances with so many requests held."""
    config = Config(router="round_robin", held_count_max=held_count + 1)
    engine, chance = Engine(config, build(config), "s"), random.Random(1)
    engine.on_fleet([replace(one, concurrency_max=IN_FLIGHT_EACH, kv_tokens_max=60_000) for one in fleet(count)], 1)
    for number in range(count * IN_FLIGHT_EACH + held_count):
        median, due_us = chance.randint(20, 400), chance.randint(1, 500) * 10 * US_PER_S
        request = InferenceRequest(f"r{number}", "m", 500, SloClass.DEFERRED, 1_000, deadline_us=due_us)
        quantiles = LengthQuantiles(median // 2, median, 2 * median, 3 * median)
        engine.on_arrive(request, LengthPrediction(quantiles, 0.0, float(median), "bench"), 1 + number)
    seconds = []
    for _ in range(50):
        began = time.perf_counter()
        told = engine.pressure(US_PER_S)
        seconds.append(time.perf_counter() - began)
    # The first question lays the anticipated load out; from then on it is kept ready.
    first, *others = seconds
    p50, p99 = common.percentiles(others, 1e3)
    return [count, count * IN_FLIGHT_EACH, held_count, len(told.waiting), p50, p99, 1e3 * first]


@click.command()
@common.options
def main(quick: bool, json_path: str | None) -> None:
    """Times routing decisions in process."""
    report = common.Report("decision", quick)
    calm_collector()
    repetitions = 3_000 if quick else 20_000
    rows: list[list[common.Cell]] = []
    for count in INSTANCE_COUNTS:
        base_us = 0.0
        for name in ("round_robin", *sorted(ROUTERS.keys() - {"round_robin"})):
            route_p50, route_p99 = common.percentiles(time_router(ROUTERS[name](), count, repetitions))
            arrivals, lives_per_s = time_engine(name, count, repetitions)
            p50, p99 = common.percentiles(arrivals)
            base_us = base_us or p50
            per_s = len(arrivals) / sum(arrivals)
            rows.append([count, name, route_p50, route_p99, p50, p99, per_s, lives_per_s, p50 / base_us])
            if name == Config().router:
                report.figures[f"arrive_{count}_p50_us"] = p50
                report.figures[f"arrive_{count}_p99_us"] = p99
                report.figures[f"decisions_{count}_per_s"] = per_s
    report.table("One decision in process, one core", COLUMNS, rows)
    crowded = {name: crowd(name, repetitions) for name in ("round_robin", *ANTICIPATING)}
    told: list[list[common.Cell]] = [[name, *times] for name, times in crowded.items()]
    report.table("One decision in process, 100 instances, 5,000 requests in flight", CROWD_COLUMNS, told)
    pressed = [time_pressure(count, held_count) for count in INSTANCE_COUNTS for held_count in (0, 10_000)]
    report.table("What the autoscaler asks each second", PRESSURE_COLUMNS, pressed)
    report.figures["pressure_p50_ms"] = max(float(row[4]) for row in pressed)
    report.figures["anticipating_p50_us"] = max(crowded[name][0] for name in ANTICIPATING)
    report.figures["anticipating_p99_us"] = max(crowded[name][1] for name in ANTICIPATING)
    report.figures["slowest_100_p50_us"] = max(float(row[4]) for row in rows if row[0] == 100)
    report.figures["slowest_100_p99_us"] = max(float(row[5]) for row in rows if row[0] == 100)
    report.close(json_path)


if __name__ == "__main__":
    main()
