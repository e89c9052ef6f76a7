"""What instances are told in a run: the prediction and the promises, never the truth."""

from typing import Any

import pytest

from forebay.core.instance.hints import NO_HINTS, Hints
from forebay.simulator.kernel.reference import ReferenceKernel
from tests.unit.simulator.shell.worlds import S, group, run, workload, world


class Noting(ReferenceKernel):
    """Writes down what comes with each row."""

    def __init__(self, row_count: int) -> None:
        super().__init__(row_count)
        self.hints: dict[int, Hints] = {}

    def arrive(self, instance: int, row: int, *rest: Any, **named: Any) -> bool:
        self.hints[row] = named.get("hints", rest[7] if len(rest) > 7 else NO_HINTS)
        return super().arrive(instance, row, *rest, **named)


def test_instances_are_told_the_prediction_and_not_the_length() -> None:
    kernel = Noting(2)
    noisy = {"predictor": {"length": "noisy", "parameters": {"noisy": {"sigma": 1.0}}}}
    run(workload([0, S], 40, [200, 200]), world(group(1)), policy=noisy, kernel=kernel)
    told = [kernel.hints[row] for row in (0, 1)]
    assert all(one.predicted_tokens not in (0, 200) and one.predicted_tokens_p90 > one.predicted_tokens for one in told)
    assert told[0].predicted_tokens != told[1].predicted_tokens


def test_instances_are_told_what_is_left_of_the_promise_of_the_class() -> None:
    kernel = Noting(3)
    policy = {
        "predictor": {"length": "none"},
        "gateway": {"promises": {"ttft_interactive_normal_s": 30.0}},
        "scheduler": {"puller": "fixed_cap", "puller_parameters": {"count": 1}},
    }
    run(workload([0, 0, 0], 40, 100, slo_class=[2, 2, 3]), world(group(1)), policy=policy, kernel=kernel)
    first, second, deferred = (kernel.hints[row] for row in range(3))
    assert first == Hints(first.predicted_tokens, first.predicted_tokens_p90, 30 * S, 200_000)
    assert 25 * S < second.ttft_slo_us < 30 * S
    assert (deferred.ttft_slo_us, deferred.tpot_slo_us) == (0, 0)


def test_calls_of_a_session_bring_what_it_was_served() -> None:
    kernel = Noting(3)
    load = workload([0, 10 * S, 20 * S], 40, [20, 30, 40], program=[5, 5, -1])
    run(load, world(group(1)), kernel=kernel)
    assert [kernel.hints[row].session_tokens for row in range(3)] == [0, 20, 0]


@pytest.mark.parametrize(
    "batcher", ["sarathi", "preemptive", "fastserve", "alise", "slos_serve", "accelgen", "autellix", "tempo"]
)
@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_every_batcher_serves_a_crowd_to_the_end(batcher: str, preemption: str) -> None:
    engine = {"batcher": batcher, "preemption": preemption, "kv_tokens": 1_024}
    load = workload([k * S // 20 for k in range(40)], 60, [20 + 17 * k % 150 for k in range(40)])
    result = run(load, world(group(1), engine=engine), policy={"predictor": {"length": "noisy"}}, kernel="fast")
    assert (result.requests.finish_us > 0).all()
    assert result.requests.preemption_count.sum() > 0 or batcher == "accelgen"
