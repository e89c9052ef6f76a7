"""Moves of running requests in the engine: asked for by whoever can move, and counted where the request then is."""

from typing import Any

import pytest

from forebay.core.errors import ConfigError
from forebay.core.scheduling import Placement
from forebay.core.values import WakeAt
from forebay.scheduler.__main__ import assemble
from forebay.scheduler.actions import Migrate
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from tests.unit.scheduler.kit import S, engine, instance, prediction, request


def crowded(**settings: Any) -> Engine:
    """Two instances for 1,000 tokens each; the first has a request that holds 990."""
    rooms: dict[str, Any] = {"kv_tokens_max": 1_000}
    made = engine(instance("a", **rooms), instance("b", **rooms), router="round_robin", **settings)
    placed = made.on_arrive(request("r1", prompt=980), prediction(50), 1)[0]
    assert isinstance(placed, Placement)
    assert placed.instance_id == "a/m"
    made.on_progress(placed.lease_id, 10, 2)
    return made


def migrates(made: Engine, now_us: int) -> list[Migrate]:
    return [action for action in made.on_wake(now_us) if isinstance(action, Migrate)]


def test_nothing_moves_before_somebody_says_that_it_can_move_requests() -> None:
    made = crowded(rescheduler="llumnix")
    assert migrates(made, 10 * S) == []
    assert WakeAt(11 * S) in made.on_mover(10 * S)
    assert [(one.placement.request_id, one.instance_id) for one in migrates(made, 11 * S)] == [("r1", "b/m")]


def test_the_rescheduler_is_asked_every_period() -> None:
    made = crowded(rescheduler="llumnix", rescheduler_parameters={"period_s": 2.0})
    made.on_mover(S)
    assert len(migrates(made, 3 * S)) == 1
    assert migrates(made, 4 * S) == []
    assert len(migrates(made, 5 * S)) == 1


def test_without_a_rescheduler_nobody_wakes_for_moves() -> None:
    made = crowded()
    made.on_wake(3)
    assert all(action.at_us > 50 * S for action in made.on_mover(4) if isinstance(action, WakeAt))


def test_a_request_that_moved_counts_where_it_is() -> None:
    made = crowded(rescheduler="llumnix")
    lease = made.leases()[0]
    made.on_moved(lease.lease_id, "b/m", 3)
    assert [one.instance_id for one in made.leases()] == ["b/m"]
    loads = {one.instance.instance_id: (one.lease_count, one.predicted_tokens) for one in made.instances()}
    assert loads["a/m"] == (0, 0)
    assert loads["b/m"] == (1, 40)
    made.on_progress(lease.lease_id, 20, 4)
    made.on_cancel("r1", 5)
    assert all(one.lease_count == one.predicted_tokens == 0 for one in made.instances())


def test_a_move_of_what_is_gone_or_to_nowhere_changes_nothing() -> None:
    made = crowded(rescheduler="llumnix")
    made.on_moved("l-unknown", "b/m", 3)
    made.on_moved(made.leases()[0].lease_id, "c/m", 3)
    assert [one.instance_id for one in made.leases()] == ["a/m"]


def test_room_that_a_move_makes_goes_to_who_waits() -> None:
    made = engine(instance("a", concurrency_max=1), router="least_requests")
    first = made.on_arrive(request("r1"), prediction(), 1)[0]
    assert isinstance(first, Placement)
    made.on_arrive(request("r2", excluded_instance_ids=frozenset({"b/m"})), prediction(), 2)
    made.on_fleet([instance(name, concurrency_max=1) for name in "ab"], 3)
    assert len(made.leases()) == 1
    placed = [one for one in made.on_moved(first.lease_id, "b/m", 4) if isinstance(one, Placement)]
    assert [(one.request_id, one.instance_id) for one in placed] == [("r2", "a/m")]


def test_the_live_scheduler_refuses_a_rescheduler_and_says_where_it_runs() -> None:
    nobody: Any = None
    with pytest.raises(ConfigError, match="no engine behind Triton can"):
        assemble(Config(rescheduler="llumnix"), nobody, nobody, nobody)
