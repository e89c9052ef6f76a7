"""Views for the tests of policies."""

from forebay.autoscaler.policy.autoscaler.base import PoolView, Samples
from forebay.core.values import ModelLoad

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
) -> PoolView:
    """One model with constant load, or with the samples given, `ready` instances and a target in force of `wanted`."""
    steady = isinstance(concurrency, (int, float))
    samples: Samples = ((now_us, float(concurrency)),) if steady else concurrency  # type: ignore[assignment,arg-type]
    return PoolView(
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
    )


CALM = {"crossed_us": -1.0, "highest": 0.0}
"""What the Knative policy remembers when it is not in panic."""
