"""The page tells pools of one model apart and names the limit that is in the way."""

import pytest
from prometheus_client import CollectorRegistry

from forebay.autoscaler.prometheus import FleetStats, limit_of
from forebay.autoscaler.room import UNLIMITED, Room, resize
from forebay.core.fleet import Bounds, ModelFleet


def room(**changes: object) -> Room:
    values: dict[str, object] = {
        "active": 2,
        "total": 2,
        "bounds": Bounds("m", 1, 8),
        "budget_left": UNLIMITED,
        "slots_left": UNLIMITED,
        "stock_left": UNLIMITED,
        "start_max": 8,
        "drain_max": 8,
        "step_max": 8,
        "waiting": False,
    }
    return Room(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"budget_left": 0}, "budget"),
        ({"stock_left": 1}, "stock"),
        ({"slots_left": 0}, "servers"),
        ({"waiting": True}, "failures"),
        ({"start_max": 1}, "step"),
        ({"total": 8}, "bounds"),
        ({"bounds": Bounds("m", 1, 3)}, "bounds"),
    ],
)
def test_every_limit_on_growth_has_its_word(changes: dict[str, object], limit: str) -> None:
    assert limit_of(resize(6, room(**changes)).bound_by) == limit


def fleet(pool: str, wanted: int, ready: int, bound_by: str = "") -> ModelFleet:
    return ModelFleet("m", Bounds("m", 0, 8, pool), wanted, ready, 0, 0, pool=pool, bound_by=bound_by)


def test_pools_of_one_model_stand_beside_each_other_and_leave_when_they_are_gone() -> None:
    registry = CollectorRegistry()
    stats = FleetStats(registry)
    stats.show([fleet("a", 3, 2, "the budget of the fleet is used up"), fleet("b", 1, 1)])
    name = "forebay_autoscaler_instances"
    assert registry.get_sample_value(name, {"model": "m", "pool": "a", "state": "ready"}) == 2
    assert registry.get_sample_value(f"{name}_wanted", {"model": "m", "pool": "b"}) == 1
    limited = {"model": "m", "pool": "a", "limit": "budget"}
    assert registry.get_sample_value("forebay_autoscaler_pool_limited", limited) == 1
    stats.show([fleet("b", 1, 1)])
    assert registry.get_sample_value("forebay_autoscaler_pool_limited", limited) is None
    assert registry.get_sample_value(f"{name}_wanted", {"model": "m", "pool": "a"}) is None
