"""Short ways to build what the scheduler's tests are about."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from forebay.core.scheduling import Placement
from forebay.core.values import (
    InferenceRequest,
    Instance,
    InstanceState,
    LengthPrediction,
    LengthQuantiles,
    SloClass,
)
from forebay.scheduler.anticipator import Anticipators
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from forebay.scheduler.leases import Lease
from forebay.scheduler.policy import build
from forebay.scheduler.policy.router.base import KV_TOKENS_UNKNOWN, Observed, Route, Router, RouteView

S = 1_000_000
"""A second in microseconds."""


def instance(name: str, model: str = "m", **changes: Any) -> Instance:
    made = Instance(f"{name}/{model}", model, f"{name}:8001", name, state=InstanceState.READY, concurrency_max=2)
    return replace(made, **changes)


def request(name: str = "r1", model: str = "m", prompt: int = 10, **changes: Any) -> InferenceRequest:
    made = InferenceRequest(name, model, prompt, slo_class=SloClass.INTERACTIVE_NORMAL)
    return replace(made, **changes)


def prediction(tokens: int = 50) -> LengthPrediction:
    quantiles = LengthQuantiles(tokens // 2, tokens, 2 * tokens, 3 * tokens)
    return LengthPrediction(quantiles, float(tokens), float(tokens), "test@1")


def engine(*instances: Instance, **settings: Any) -> Engine:
    """An engine that knows these instances since time 0; without any it has not heard of a fleet yet."""
    config = Config(**settings)
    made = Engine(config, build(config), "s")
    if instances:
        made.on_fleet(instances, 0)
    return made


def route_view(
    in_flight: Sequence[int],
    closed: Sequence[int] = (),
    turn: int = 0,
    running: Sequence[int] = (),
    waiting: Sequence[int] = (),
    used: Sequence[float] = (),
    room: Sequence[int] = (),
    caps: Sequence[int] = (),
    leases: Sequence[Sequence[Lease]] = (),
    **counts: Sequence[int],
) -> RouteView:
    """What a router sees of these loads, instances i0, i1, ...; nothing was seen from outside unless given here."""
    count = len(in_flight)
    opened = [{one.placement.lease_id: one for one in there} for there in leases or [()] * count]
    caps = caps or [100] * count
    eligible = [index not in closed and in_flight[index] < caps[index] for index in range(count)]
    counted = (
        "predicted_tokens",
        "prompt_tokens_in_flight",
        "prompt_tokens_pending",
        "unseen_prompt_tokens",
        "deferred_count",
        "released_count",
    )
    zero = [0] * count
    return RouteView(
        instance_ids=tuple(f"i{index}" for index in range(count)),
        eligible=frozen(eligible, np.bool_),
        eligible_count=sum(eligible),
        concurrency_cap=frozen(caps, np.int32),
        in_flight_count=frozen(in_flight),
        unseen_count=frozen(counts.pop("unseen_count", in_flight)),
        **{name: frozen(counts.pop(name, [0] * count)) for name in counted},
        observed=Observed(
            frozen([bool(used or waiting)] * count, np.bool_),
            frozen(running or zero),
            frozen(waiting or zero),
            frozen(used or zero, np.float64),
            frozen(room or [KV_TOKENS_UNKNOWN] * count),
        ),
        turn_index=turn,
        prompt_tokens=10,
        predicted_length=LengthQuantiles(1, 2, 3, 4),
        slo_class=SloClass.INTERACTIVE_FAST,
        anticipated=Anticipators(opened),
        **counts,  # type: ignore[arg-type]
    )


def lease(name: str, prompt: int, median: int, generated: int = 0, tokens_max: int = 0) -> Lease:
    """A lease whose answer is predicted to have half, once, twice and three times the median."""
    quantiles = LengthQuantiles(median // 2, median, 2 * median, 3 * median).capped(tokens_max)
    placed = Placement(name, f"l-{name}", "", "i/m", "", quantiles, "test", 0)
    return Lease(placed, request(name, prompt=prompt), "g", tokens_max, 0, 0, generated)


def routed(router: Router, view: RouteView) -> Route:
    """What a router says that must not hold the request."""
    route = router.route(view)
    assert isinstance(route, Route)
    return route


def frozen(values: Sequence[float], dtype: Any = np.int64) -> Any:
    """A read-only array."""
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array
