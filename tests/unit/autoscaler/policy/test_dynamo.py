"""Dynamo's loops, with values computed by hand: an instance reads 1,000 and writes 100 tokens a second."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forebay.autoscaler.policy.autoscaler.base import Arrived, Choice, DemandView, ForecastWindow, InstanceView
from forebay.autoscaler.policy.autoscaler.dynamo import Dynamo
from forebay.core.pressure import InstancePressure
from forebay.core.promises import Promise
from forebay.core.values import ModelLoad, SloClass
from tests.unit.autoscaler.policy.kit import RATES, S, fleet, server, view, window

W = 180


def demand(second: int, requests_per_s: float, prompt: float = 300.0, answer: float = 20.0) -> DemandView:
    """What came in the last window, at a steady rate."""
    arrived = tuple(
        Arrived(at * S, requests_per_s * at, requests_per_s * at * prompt, requests_per_s * at * answer)
        for at in (second - W, second)
    )
    return DemandView("m", "local", SloClass.INTERACTIVE_FAST, arrived)


class Stage:
    """One pool over time: what the policy answers is there at once."""

    def __init__(self, wanted: int = 1, **parameters: Any) -> None:
        self.policy = Dynamo(**parameters)
        self.wanted = wanted
        self.memo: dict[str, float] = {}
        self.promises: dict[SloClass, Promise] = {}

    def choice(self, second: int, rate: float | None, *servers: InstanceView, **others: Any) -> Choice:
        settings = {"capability": RATES, "kv_tokens": 10_000, "instances": servers, **others}
        count = len(servers) or self.wanted
        pool = view(ready=count, wanted=self.wanted, now_us=second * S, memo=self.memo, **settings)
        demands = () if rate is None else (demand(second, rate),)
        choice = self.policy.plan(fleet(pool, demands=demands, promises=self.promises)).pools["m"]
        self.wanted, self.memo = choice.instances_wanted, dict(choice.memo)
        return choice

    def step(self, second: int, rate: float | None, *servers: InstanceView, **others: Any) -> int:
        return self.choice(second, rate, *servers, **others).instances_wanted


def test_each_window_gets_what_the_last_one_would_have_needed() -> None:
    stage = Stage()
    # 12.5 requests/s of 20 tokens over 100: 2.5; of 300 over 1,000: 3.75; 4,000 tokens over 1,050: 3.81.
    assert [stage.step(second, 12.5) for second in (2 * W - 5, 2 * W, 2 * W + 90)] == [1, 4, 4]
    assert stage.step(3 * W, 3.0) == 1
    assert stage.step(4 * W, 0.0) == 1
    assert stage.step(5 * W, None) == 1


def test_the_fewest_may_be_none() -> None:
    stage = Stage(3, replicas_min=0)
    assert [stage.step(second, 0.0) for second in (W, 2 * W)] == [3, 0]


def test_the_filter_is_that_of_level_and_trend() -> None:
    values = [10.0, 14.0, 13.0, 19.0, 22.0, 21.0]
    f, q, h = np.array([[1.0, 1.0], [0.0, 1.0]]), np.diag([1.0, 0.1]), np.array([[1.0, 0.0]])
    x, p = np.array([values[0], 0.0]), np.eye(2) * 1_000.0
    for number, value in enumerate(values):
        if number:
            x, p = f @ x, f @ p @ f.T + q
        gain = (p @ h.T) / (h @ p @ h.T + 10.0)
        x, p = x + gain[:, 0] * (value - x[0]), (np.eye(2) - gain @ h) @ p
    expected = (f @ x)[0]
    policy, memo = Dynamo(predictor="kalman"), {"requests": values[-1]}
    for value in values:
        policy._filter(memo, "requests", value)
    assert policy._filtered(memo, "requests") == pytest.approx(expected)


def test_the_filter_counts_from_five_points_after_leading_zeros() -> None:
    stage = Stage(predictor="kalman")
    rates = [0.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    stage.step(W, 0.0)
    expected = [stage.choice((2 + n) * W, rate).inputs.get("expected") for n, rate in enumerate(rates)]
    # The last value up to the fourth point that is not a leading zero; from the fifth on above it, since it rises.
    assert expected[:6] == pytest.approx([0.0, 0.0, 2.0, 4.0, 6.0, 8.0])
    assert 10.0 < (expected[6] or 0.0) < 14.0
    assert 13.0 < (expected[7] or 0.0) < 15.0


def test_the_filter_never_expects_less_than_nothing() -> None:
    stage = Stage(predictor="kalman", replicas_min=0)
    for number, rate in enumerate([50.0, 40.0, 30.0, 20.0, 10.0, 0.0, 0.0]):
        choice = stage.choice((1 + number) * W, rate)
    assert choice.inputs["expected"] == 0.0
    assert choice.instances_wanted == 0


def test_in_logarithms_a_constant_series_gives_its_value_and_its_noise_is_a_factor() -> None:
    plain, logs = Stage(predictor="kalman"), Stage(predictor="kalman", uses_log=True)
    for number in range(8):
        found = [stage.choice((1 + number) * W, 4.0).inputs.get("expected", 0.0) for stage in (plain, logs)]
    assert found == pytest.approx([4.0, 4.0])
    # A jump of ten times is followed nearly whole, and in logarithms less than half.
    found = [stage.choice(9 * W, 40.0).inputs["expected"] for stage in (plain, logs)]
    assert found[0] > 20.0 > found[1] > 4.0


def forecast(second: int, rate: float) -> tuple[ForecastWindow, ...]:
    return (window(second * S, rate * W, rate * W * 300.0, rate * W * 20.0),)


def test_the_predictors_forecast_counts_when_its_window_begins() -> None:
    stage = Stage(predictor="forecast")
    assert stage.step(2 * W - 5, 1.0, forecast=forecast(2 * W, 12.5)) == 1
    assert stage.step(2 * W, 1.0, forecast=forecast(3 * W, 0.1)) == 4
    assert stage.step(3 * W, 1.0, forecast=()) == 1
    # Where there is none, the last one holds.
    assert stage.step(4 * W, 20.0, forecast=()) == 1
    assert Dynamo(predictor="forecast").needs.forecast_window_us == W * S


def test_the_older_form_takes_the_most_of_both_halves() -> None:
    stage = Stage(form="v1.0")
    stage.step(W, 12.5)
    # ceil(3.75); a first token after half of the 0.3 s that its prompt takes makes it ceil(max(1.875, 2.5)).
    assert stage.step(2 * W, 12.5) == 4
    assert stage.step(3 * W, 12.5, load=ModelLoad("m", ttft_p50_s=0.15)) == 3
    assert stage.step(4 * W, 12.5, load=ModelLoad("m", ttft_p50_s=9.0)) == 4


def loaded(name: str, share: float, queue: int = 0) -> InstanceView:
    return server(name, share, pressure=InstancePressure(name, prefill_tokens=queue))


def quick(wanted: int = 2, **parameters: Any) -> Stage:
    """The quick loop after a window: one is the least, it is full at 100/s * 50 ms * 310 = 1,550 of 10,000 tokens."""
    stage = Stage(wanted, has_load_loop=True, **parameters)
    stage.step(W, 1.0)
    stage.step(2 * W, 1.0)
    stage.wanted = wanted
    return stage


T = 2 * W + 5


def test_one_more_starts_only_when_all_are_predicted_above() -> None:
    # A queue of 201 tokens and its own 300 take 0.501 s; a cache of more than 0.155 has steps of more than 50 ms.
    assert quick().step(T, 1.0, loaded("a", 0.0, 201), loaded("b", 0.16)) == 3
    assert quick().step(T, 1.0, loaded("a", 0.0, 199), loaded("b", 0.16)) == 2
    assert quick().step(T, 1.0, loaded("a", 0.16), loaded("b", 0.15)) == 2


def test_the_promises_are_those_of_the_fast_class_or_its_own() -> None:
    promised = {SloClass.INTERACTIVE_FAST: Promise(ttft_s=1.0, tpot_ms=100.0)}
    cases: list[tuple[dict[str, Any], tuple[float, float]]] = [({}, (0.31, 0.32)), ({"itl_s": 0.2}, (0.61, 0.63))]
    for parameters, shares in cases:
        for share, expected in zip(shares, (2, 3), strict=True):
            stage = quick(**parameters)
            stage.promises = promised
            assert stage.step(T, 1.0, loaded("a", share - 0.001), loaded("b", share)) == expected
    # A prompt that takes longer than that by itself is no reason for more: nothing would become quicker.
    assert quick(ttft_s=0.2).step(T, 1.0, loaded("a", 0.12, 9), loaded("b", 0.12, 9)) == 2


def test_steps_end_at_the_bounds() -> None:
    full = [loaded(name, 0.5) for name in "ab"]
    assert quick().step(T, 1.0, *full, instances_max=2) == 2
    idle = [loaded(name, 0.0) for name in "ab"]
    assert quick().step(T, 1.0, *idle, instances_min=2) == 2


def test_one_leaves_only_when_each_survives_twice_its_load() -> None:
    # 2 * 79 tokens are 0.158 s of (0.5 - 0.3) * 0.8; twice a share of 0.061 has steps of 39 ms.
    assert quick().step(T, 1.0, loaded("a", 0.04, 79), loaded("b", 0.061)) == 1
    assert quick().step(T, 1.0, loaded("a", 0.0, 81), loaded("b", 0.0)) == 2
    assert quick().step(T, 1.0, loaded("a", 0.063), loaded("b", 0.0)) == 2


def test_the_slow_loop_is_the_least_of_the_quick_one() -> None:
    stage = quick()
    idle = [loaded(name, 0.0) for name in "ab"]
    assert stage.step(3 * W, 12.5, *idle) == 4
    assert stage.step(3 * W + 5, 12.5, *[loaded(name, 0.0) for name in "abcd"]) == 4
    assert quick(1).step(T, 1.0, loaded("a", 0.0)) == 1


def test_nothing_changes_while_a_change_is_under_way_or_too_soon() -> None:
    full = [loaded(name, 0.5) for name in "ab"]
    assert quick(3).step(T, 1.0, *full, starting_count=1) == 3
    assert quick().step(T, 1.0, *full, draining_count=1) == 2
    stage = quick()
    assert [stage.step(T + second, 1.0, *full) for second in (0, 4, 5)] == [3, 3, 4]


def test_what_does_not_tell_is_no_evidence() -> None:
    mute = InstanceView("c", 0)
    assert quick().step(T, 1.0, mute, mute) == 2
    assert quick(3).step(T, 1.0, loaded("a", 0.5), loaded("b", 0.5), mute) == 4
    assert quick(3).step(T, 1.0, loaded("a", 0.0), loaded("b", 0.0), mute) == 3


@pytest.mark.parametrize(
    ("target", "share", "queue", "expected"),
    [
        ("throughput", 0.5, 8_193, 3),
        ("throughput", 0.7, 4_000, 3),  # 0.7 and 4,000 queued of 10,000
        ("throughput", 0.7, 0, 2),
        ("throughput", 0.6, 0, 1),
        ("throughput", 0.1, 820, 2),
        ("latency", 0.0, 820, 3),
        ("latency", 0.41, 0, 3),
        ("latency", 0.2, 0, 2),
        ("latency", 0.1, 0, 1),
        ("latency", 0.0, 1, 2),
    ],
)
def test_fixed_targets_move_by_any_above_and_by_all_below(target: str, share: float, queue: int, expected: int) -> None:
    stage = Stage(2, target=target)
    assert stage.step(10, None, loaded("a", share, queue), loaded("b", 0.0)) == expected


def test_fixed_targets_wait_for_changes_evidence_and_time() -> None:
    full, idle = loaded("a", 1.0, 9_000), [loaded(name, 0.0) for name in "ab"]
    assert Stage(2, target="throughput").step(10, None, full, starting_count=1) == 2
    assert Stage(2, target="throughput").step(10, None, idle[0], InstanceView("b", 0)) == 2
    assert Stage(1, target="throughput").step(10, None, idle[0]) == 1
    stage = Stage(3, target="throughput")
    assert [stage.step(10 + second, None, *idle) for second in (0, 4, 5)] == [2, 2, 1]
    held = {"load": ModelLoad("m", held_count=1), "ready_count": 0}
    assert Stage(0, target="throughput", replicas_min=0).step(10, None, **held) == 1


def test_where_the_scheduler_is_not_heard_of_a_server_tells_what_waits() -> None:
    waiting = server("a", 0.0, waiting=30)
    load = ModelLoad("m", ended_count=10, prompt_tokens=3_000)
    # 30 * 300 tokens are more than a context of 8,192.
    assert Stage(1, target="throughput").step(10, None, waiting, load=load) == 2


def test_where_nobody_measured_an_instance_the_plan_holds_and_says_so() -> None:
    pool = view(wanted=3, capability=replace(RATES, tokens_per_s=0.0))
    choice = Dynamo().plan(fleet(pool))
    assert choice.pools["m"].instances_wanted == 3
    assert "forebay profile" in choice.warnings[0]


@pytest.mark.parametrize(
    "parameters",
    [{"target": "cost"}, {"predictor": "prophet"}, {"form": "v2"}, {"window_s": 0.0}, {"replicas_min": -1}],
)
def test_parameters_that_cannot_work_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Dynamo(**parameters)
