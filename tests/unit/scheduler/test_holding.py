"""What the engine does with requests that the router holds of its own accord."""

from dataclasses import dataclass, replace

from forebay.core.scheduling import Placement, Retry
from forebay.core.values import InferenceRequest, InstanceLoad, InstanceRole, Outcome, SloClass, WakeAt
from forebay.scheduler.actions import Action
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from forebay.scheduler.policy import build
from forebay.scheduler.policy.router.base import Hold, Route, Router, RouteView
from forebay.scheduler.policy.router.least_requests import LeastRequests
from forebay.scheduler.policy.router.sageserve import SageServe
from tests.unit.scheduler.kit import S, instance, request


@dataclass
class HoldsDeferred:
    """Holds deferred work, however much room there is, and counts how often it was asked."""

    speaks_for_class: bool = True
    asked_count: int = 0
    is_open: bool = False

    def route(self, view: RouteView) -> Route | Hold:
        self.asked_count += 1
        if view.slo_class is SloClass.DEFERRED and not self.is_open:
            return Hold("not now", self.speaks_for_class)
        return LeastRequests().route(view)


def deferred(name: str, **changes: object) -> InferenceRequest:
    return request(name, slo_class=SloClass.DEFERRED, **changes)


def engine_of(router: Router, *names: str, cap: int = 50, **settings: object) -> Engine:
    config = Config(puller_parameters={"count": cap}, **settings)  # type: ignore[arg-type]
    built = build(config)
    policies = replace(built, router=router)
    made = Engine(config, policies, "s")
    made.on_fleet([instance(name) for name in names or ("a",)], 0)
    return made


def placed(actions: list[Action]) -> list[str]:
    return [action.request_id for action in actions if isinstance(action, Placement)]


def wakes(actions: list[Action]) -> list[int]:
    return [action.at_us for action in actions if isinstance(action, WakeAt)]


def test_held_deferred_work_does_not_block_interactive_requests() -> None:
    engine = engine_of(HoldsDeferred())
    assert placed(engine.on_arrive(deferred("d1"), None, 1)) == []
    assert placed(engine.on_arrive(request("i1"), None, 2)) == ["i1"]
    assert engine.queues(3)[0].held_count == 1


def test_a_shadow_is_asked_once_about_a_request_that_the_router_lets_wait() -> None:
    engine = engine_of(HoldsDeferred(speaks_for_class=False), shadows={"other": {"router": "least_requests"}})
    for number in range(1, 4):
        engine.on_arrive(deferred(f"d{number}"), None, number)
    engine.on_arrive(request("i1"), None, 4)
    (shadow,) = engine.shadows()
    (row,) = shadow.rows
    assert (row.kind, row.compared_count, row.different_count) == ("router", 4, 3)


def test_what_a_router_holds_is_reviewed_after_a_while_and_again_until_it_goes() -> None:
    router = HoldsDeferred()
    engine = engine_of(router, hold_review_s=2.0)
    assert wakes(engine.on_arrive(deferred("d1"), None, 1)) == [2 * S + 1]
    assert wakes(engine.on_wake(2 * S + 1)) == [4 * S + 1]
    router.is_open = True
    assert placed(engine.on_wake(4 * S + 1)) == ["d1"]
    assert engine.queues(4 * S + 1)[0].held_count == 0


def test_a_hold_for_want_of_room_is_not_reviewed() -> None:
    engine = engine_of(LeastRequests(), cap=1)
    engine.on_arrive(request("i1"), None, 1)
    assert wakes(engine.on_arrive(request("i2"), None, 2)) == []


def test_one_hold_for_a_class_asks_once_and_one_for_a_request_asks_for_each() -> None:
    for speaks_for_class, asked in ((True, 1), (False, 21)):
        router = HoldsDeferred(speaks_for_class)
        engine = engine_of(router)
        for number in range(20):
            engine.on_arrive(deferred(f"d{number}"), None, number + 1)
        router.asked_count = 0
        engine.on_wake(S + 1)
        assert router.asked_count == asked


def test_an_older_request_of_the_class_is_asked_for_itself() -> None:
    """Who waited for longer may be promoted, though the order puts it last."""

    @dataclass
    class Promotes(HoldsDeferred):
        def route(self, view: RouteView) -> Route | Hold:
            self.is_open = view.arrived_us < 5
            return HoldsDeferred.route(self, view)

    config = Config(orderer="shortest_predicted", orderer_parameters={"ageing_tokens_per_s": 0.0})
    built = build(config)
    policies = replace(built, router=Promotes())
    engine = Engine(config, policies, "s")
    engine.on_arrive(deferred("old", tokens_max=400), None, 1)
    for number in range(12):
        engine.on_arrive(deferred(f"d{number}", tokens_max=10), None, number + 10)
    assert placed(engine.on_fleet([instance("a")], 100)) == ["old"]


def test_sageserve_lets_two_go_a_signal_where_the_region_is_idle() -> None:
    engine = engine_of(SageServe())
    arrivals = [placed(engine.on_arrive(deferred(f"d{number}"), None, number + 1)) for number in range(6)]
    assert arrivals == [["d0"], ["d1"], [], [], [], []]
    lease_id = engine.leases()[0].lease_id
    assert placed(engine.on_finish(lease_id, Outcome.STOPPED, 9, 10)) == ["d2", "d3"]
    assert placed(engine.on_wake(S + 3)) == ["d4", "d5"]


def test_sageserve_lets_one_go_a_signal_where_the_region_is_half_full_and_none_where_it_is_full() -> None:
    engine = engine_of(SageServe(), hold_review_s=1_000.0, loads_stale_s=900.0)
    for used, now_us in ((0.55, 10), (0.61, 30)):
        load = InstanceLoad("a/m", "m", True, seen_us=now_us, kv_utilization=used)
        engine.on_loads([load], now_us)
        names = [f"d{now_us + number}" for number in range(3)]
        gone = [name for name in names if placed(engine.on_arrive(deferred(name), None, now_us + 1))]
        assert len(gone) == (1 if used < 0.6 else 0)


def test_a_request_that_ends_in_another_region_is_no_signal() -> None:
    engine = Engine(Config(), build(Config(router="sageserve")), "s")
    engine.on_fleet([instance("a", region="east"), instance("b", region="west")], 0)
    for number in range(4):
        engine.on_arrive(deferred(f"d{number}", region="east"), None, 1)
    assert placed(engine.on_arrive(deferred("d4", region="east"), None, 1)) == []
    west = next(one.lease_id for one in engine.leases() if one.instance_id == "b/m")
    assert placed(engine.on_finish(west, Outcome.STOPPED, 9, 10)) == ["d4"]
    assert engine.lease_count("b/m") == 2


def test_who_was_held_by_the_router_until_the_end_is_told_why() -> None:
    engine = engine_of(HoldsDeferred(), hold_timeout_deferred_s=5.0)
    engine.on_arrive(deferred("d1"), None, 1)
    for second in range(1, 6):
        actions = engine.on_wake(second * S + 1)
    (retry,) = [action for action in actions if isinstance(action, Retry)]
    assert retry.reason == "HELD_TOO_LONG"
    assert retry.message.startswith("the router let it wait: not now, in the 5.0 s that this request was held")


def test_who_may_not_go_everywhere_speaks_for_nobody_else() -> None:
    """Only "b" is mixed: a request that excludes it waits, and the next one of its class does not."""
    config = Config(router="chiron", puller_parameters={"count": 5})
    engine = Engine(config, build(config), "s")
    picky = request("i1", excluded_instance_ids=frozenset({"b/m"}))
    engine.on_arrive(picky, None, 1)
    engine.on_arrive(request("i2"), None, 2)
    fleet = [instance("a", role=InstanceRole.BATCH), instance("b", role=InstanceRole.MIXED)]
    assert placed(engine.on_fleet(fleet, 3)) == ["i2"]
