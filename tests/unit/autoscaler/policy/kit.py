"""Views for the tests of policies."""

from dataclasses import replace
from typing import Any

from forebay.autoscaler.policy.autoscaler.base import (
    Capability,
    FleetView,
    ForecastWindow,
    InstanceView,
    PoolView,
    Samples,
)
from forebay.core.pressure import InstancePressure
from forebay.core.values import InstanceLoad, ModelLoad

S = 1_000_000
NOW = 1_000 * S


def view(
    concurrency: float | Samples = 0.0,
    *,
    ready: int = 1,
    wanted: int = 1,
    target: float = 10.0,
    initial: int = 1,
    recommendations: Samples = (),
    memo: dict[str, float] | None = None,
    now_us: int = NOW,
    **others: Any,
) -> PoolView:
    """One model with constant load, or with the samples given, `ready` instances and a target in force of `wanted`."""
    steady = isinstance(concurrency, (int, float))
    samples: Samples = ((now_us, float(concurrency)),) if steady else concurrency  # type: ignore[assignment,arg-type]
    plain = PoolView(
        model="m",
        now_us=now_us,
        ready_count=ready,
        starting_count=0,
        draining_count=0,
        instances_wanted=wanted,
        instances_min=0,
        instances_max=100,
        instances_initial=initial,
        concurrency_target=target,
        load=ModelLoad("m"),
        concurrency=samples,
        recommendations=recommendations,
        memo=memo or {},
        pool="m",
    )
    return replace(plain, **others)


def fleet(*pools: PoolView, **others: Any) -> FleetView:
    """These pools together."""
    return FleetView(now_us=pools[0].now_us if pools else NOW, pools=pools, **others)


def server(
    name: str, kv: float | None = 0.0, running: int = 0, waiting: int = 0, pressure: InstancePressure | None = None
) -> InstanceView:
    """A ready instance whose server tells these figures."""
    load = InstanceLoad(name, "m", True, running_count=running, waiting_count=waiting, kv_utilization=kv)
    return InstanceView(name, 0, load, pressure)


def heard(name: str, **figures: Any) -> InstanceView:
    """A ready instance of which the scheduler tells these figures."""
    return InstanceView(name, 0, None, InstancePressure(name, **figures))


def window(start_us: int, requests: float, prompt_tokens: float, response_tokens: float) -> ForecastWindow:
    """A forecast that is sure of itself."""
    return ForecastWindow(start_us, *((value,) * 4 for value in (requests, prompt_tokens, response_tokens)))


RATES = Capability(1_000.0, 100.0, 1_050.0)
"""What an instance of the tests does a second."""


CALM = {"crossed_us": -1.0, "highest": 0.0}
"""What the Knative policy remembers when it is not in panic."""
