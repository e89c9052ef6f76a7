from forebay.core.scheduling import Placement
from forebay.core.values import SloClass, WakeAt
from forebay.scheduler.actions import Action, Plan
from forebay.scheduler.engine import Engine
from forebay.scheduler.policy.planner.base import Group
from tests.unit.scheduler.kit import S, engine, instance, prediction, request


def busy(**settings: object) -> Engine:
    """Two instances with a request each, which generate 10 tokens a second together; everybody else waits."""
    one = engine(
        instance("a"), instance("b"), system="qlm", puller_parameters={"count": 1}, ttft_slo_interactive_normal_s=20.0,
        **settings,
    )  # fmt: skip
    for name in ("x", "y"):
        one.on_arrive(request(name), prediction(200), 1)
    for second in range(1, 41):
        for lease in one.leases():
            one.on_progress(lease.lease_id, 5 * second, second * S)
    return one


def plans(actions: list[Action]) -> list[Plan]:
    return [action for action in actions if isinstance(action, Plan)]


def placed(actions: list[Action]) -> list[tuple[str, str]]:
    return [(one.request_id, one.instance_id) for one in actions if isinstance(one, Placement)]


def arrive(one: Engine, name: str, tokens: int, slo_class: SloClass = SloClass.INTERACTIVE_NORMAL) -> list[Action]:
    return one.on_arrive(request(name, slo_class=slo_class), prediction(tokens), 40 * S)


def test_the_planner_is_asked_where_a_promise_is_in_danger_and_not_twice_at_once() -> None:
    one = busy()
    actions = arrive(one, "r1", 300)
    assert WakeAt(42 * S) in actions
    (asked,) = plans(one.on_wake(42 * S))
    assert asked.model == "m"
    (group,) = asked.view.groups
    assert group == Group(1, group.work_s, 18.0)
    # 300 tokens at 5 a second, and the requests that run are about to end.
    assert 50 <= group.work_s <= 70
    assert len(asked.view.busy_s) == 2
    assert plans(one.on_wake(44 * S)) == []
    one.on_planned("m", None, 45 * S)
    assert len(plans(one.on_wake(46 * S))) == 1


def test_nobody_is_asked_while_all_promises_can_be_kept() -> None:
    one = busy()
    arrive(one, "r1", 10, SloClass.DEFERRED)
    assert plans(one.on_wake(42 * S)) == []
    assert one.queues(42 * S)[0].held_count == 1


def test_a_plan_sends_groups_where_and_when_it_says() -> None:
    one = busy()
    arrive(one, "fast", 300, SloClass.INTERACTIVE_FAST)
    arrive(one, "normal", 300)
    (asked,) = plans(one.on_wake(42 * S))
    assert len(asked.view.groups) == 2
    # First deadline first would begin with "fast", on the instance that comes free first.
    one.on_planned("m", ((), (1, 0)), 43 * S)
    finish = {lease.instance_id: lease.lease_id for lease in one.leases()}
    assert placed(one.on_cancel("y", 44 * S)) == [("normal", "b/m")]
    assert placed(one.on_cancel("x", 45 * S)) == [("fast", "a/m")]
    assert len(finish) == 2


def test_a_plan_is_forgotten_when_nothing_is_in_danger_any_more() -> None:
    one = busy()
    arrive(one, "fast", 300, SloClass.INTERACTIVE_FAST)
    arrive(one, "late", 300, SloClass.DEFERRED)
    one.on_wake(42 * S)
    one.on_planned("m", ((1, 0), ()), 43 * S)
    one.on_cancel("fast", 43 * S)
    one.on_wake(44 * S)
    arrive(one, "normal", 300)
    assert placed(one.on_cancel("y", 46 * S)) == [("normal", "b/m")]


def test_requests_that_are_alike_come_in_groups_of_limited_size() -> None:
    one = busy(planner_parameters={"size_max": 2, "groups_max": 3})
    for number in range(7):
        arrive(one, f"r{number}", 300)
    (asked,) = plans(one.on_wake(42 * S))
    assert [group.request_count for group in asked.view.groups] == [2, 2, 2]


def test_an_answer_about_what_is_gone_changes_nothing() -> None:
    one = busy()
    arrive(one, "r1", 300)
    one.on_wake(42 * S)
    one.on_cancel("r1", 43 * S)
    assert one.on_planned("m", ((0,), ()), 44 * S) == []
    assert one.on_planned("m", None, 45 * S) == []


def test_without_a_planner_nobody_is_asked() -> None:
    one = engine(instance("a"), orderer="qlm", puller_parameters={"count": 1})
    one.on_arrive(request("x"), prediction(9), 1)
    assert all(not isinstance(action, WakeAt) or action.at_us > 50 * S for action in arrive(one, "r", 9))
