"""PreServe's two tiers, computed by hand: 1,000 prompt, 100 response and 1,050 tokens a second and instance."""

from typing import Any

import pytest

from forebay.autoscaler.policy.autoscaler.base import Capability, Choice, InstanceView
from forebay.autoscaler.policy.autoscaler.preserve_paper import PreservePaper
from tests.unit.autoscaler.policy.kit import RATES, S, fleet, heard, view, window

W = 600 * S
IDLE: dict[str, Any] = {"peak_share": 0.1}
BUSY: dict[str, Any] = {"peak_share": 0.9, "over_share": 0.05}
OVER: dict[str, Any] = {"peak_share": 1.2, "over_share": 0.11}


class Stage:
    """One pool over time: what the policy answers is there at once."""

    def __init__(self, wanted: int = 2, policy: PreservePaper | None = None) -> None:
        self.policy = policy or PreservePaper()
        self.wanted = wanted
        self.memo: dict[str, float] = {}

    def step(self, second: float, *instances: InstanceView, **others: Any) -> int:
        return self.choice(second, *instances, **others).instances_wanted

    def choice(self, second: float, *instances: InstanceView, **others: Any) -> Choice:
        settings = {"capability": RATES, "kv_tokens": 1_000, **others}
        pool = view(
            ready=len(instances),
            wanted=self.wanted,
            now_us=int(second * S),
            instances=instances,
            memo=self.memo,
            **settings,
        )
        choice = self.policy.plan(fleet(pool)).pools["m"]
        self.wanted, self.memo = choice.instances_wanted, dict(choice.memo)
        return choice


def busy(count: int) -> list[InstanceView]:
    return [heard(str(number), **BUSY) for number in range(count)]


def test_a_window_begins_with_what_its_forecast_asked_for() -> None:
    stage = Stage()
    # P / (mu_p W) = 1.5, D / (mu_d W) = 2.5, (P + D) / (mu_t W) = 1.67: three.
    coming = (window(W, 100.0, 900_000.0, 150_000.0),)
    assert stage.step(30, *busy(2), forecast=coming) == 2
    assert stage.step(599, *busy(2), forecast=coming) == 2
    begin = stage.choice(600, *busy(2), forecast=(window(2 * W, 0.0, 0.0, 0.0),))
    assert (begin.instances_wanted, begin.inputs["tier1"]) == (3, 3.0)
    # Within the window the plan is not taken again, and the next one's waits.
    assert stage.step(602, *busy(3), forecast=(window(2 * W, 0.0, 0.0, 0.0),)) == 3
    assert stage.step(1_200, *busy(3)) == 0


def test_the_plan_may_be_taken_ahead_of_its_window() -> None:
    stage = Stage(policy=PreservePaper(ahead_s=60.0))
    coming = (window(W, 100.0, 900_000.0, 150_000.0),)
    answers = [stage.step(second, *busy(2), forecast=coming) for second in (30, 539, 540)]
    assert answers == [2, 2, 3]


def test_without_a_forecast_the_number_stays() -> None:
    stage = Stage()
    assert [stage.step(second, *busy(2)) for second in (30, 600, 1_200)] == [2, 2, 2]


def test_each_instance_is_credited_once_an_episode() -> None:
    stage = Stage()
    stage.step(10, *busy(2))
    assert stage.step(12, heard("a", **OVER), heard("b", **BUSY)) == 3
    assert stage.step(14, heard("a", **OVER), heard("b", **BUSY)) == 3
    assert stage.step(16, heard("a", **OVER), heard("b", **OVER)) == 4
    # Over for a while, then again: another episode. One not heard of goes on with its own.
    assert stage.step(18, heard("a", **BUSY), InstanceView("b", 0)) == 4
    assert stage.step(20, heard("a", **OVER), heard("b", **OVER)) == 5


def test_a_tenth_of_the_iterations_is_not_yet_an_overload() -> None:
    assert Stage(1).step(10, heard("a", peak_share=1.0, over_share=0.10)) == 1


def test_an_overload_adds_to_what_the_window_begins_with() -> None:
    stage = Stage()
    stage.step(30, *busy(2), forecast=(window(W, 100.0, 900_000.0, 150_000.0),))
    assert stage.step(600, heard("0", **OVER), heard("1", **BUSY)) == 4


def test_where_all_are_idle_it_keeps_what_the_peaks_need_once_a_window() -> None:
    stage = Stage(4)
    idle = [heard(str(number), **IDLE) for number in range(4)]
    assert stage.step(10, *idle) == 4  # a window begins
    assert stage.step(12, *idle) == 2  # ceil(0.4 / 0.3)
    assert stage.step(14, *[heard(str(number), peak_share=0.0) for number in range(2)]) == 2
    assert stage.step(600, *idle[:2]) == 2
    assert stage.step(602, *idle[:2]) == 1


def test_nothing_leaves_while_one_is_busy_starts_or_is_not_heard_of() -> None:
    idle = [heard(str(number), **IDLE) for number in range(3)]
    for instances, others in (
        ([*idle, heard("b", peak_share=0.3)], {}),
        ([*idle, InstanceView("b", 0)], {}),
        (idle, {"starting_count": 1}),
        ([*idle, heard("b", **IDLE)], {"kv_tokens": 0}),
        ([], {}),
    ):
        stage = Stage(4)
        stage.step(10, *instances, **others)
        assert stage.step(12, *instances, **others) == 4


def test_where_nobody_measured_an_instance_the_plan_holds_and_says_so() -> None:
    pool = view(wanted=3, capability=Capability(1_000.0, 0.0, 0.0), instances=(heard("a", **OVER),))
    choice = PreservePaper().plan(fleet(pool))
    assert choice.pools["m"].instances_wanted == 3
    assert "forebay profile" in choice.warnings[0]


def test_it_asks_for_one_window_and_for_pressure() -> None:
    needs = PreservePaper().needs
    assert (needs.forecast_window_us, needs.forecast_count, needs.pressure) == (W, 1, True)


@pytest.mark.parametrize(
    "parameters", [{"window_s": 0.0}, {"ahead_s": 600.0}, {"overload_share": 1.0}, {"underload_peak": 0.0}]
)
def test_parameters_that_cannot_work_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        PreservePaper(**parameters)
