"""A smaller model answers some requests before anybody else hears of them."""

import numpy as np
import pytest

from forebay.core.promises import Promises
from forebay.simulator.config import StudentConfig
from forebay.simulator.results import STATUSES, UNKNOWN, RunResult
from forebay.simulator.summary import summarize
from tests.unit.simulator.shell.worlds import S, run, workload, world

TIMES = [number * S for number in range(100)]


def taught(**given: float) -> RunResult:
    return run(workload(TIMES, 40, 5), world(student=StudentConfig(**given)))


def test_its_answers_take_a_fixed_time_and_no_instance() -> None:
    result = taught(share=1.0, latency_s=0.3)
    rows = result.requests
    assert (rows.first_us - rows.arrival_us).tolist() == (rows.finish_us - rows.arrival_us).tolist() == [300_000] * 100
    assert set(rows.instance.tolist()) == {UNKNOWN}
    assert set(rows.status.tolist()) == {STATUSES.index("finished")}
    assert result.counters["student_answers"] == 100


def test_a_larger_share_holds_all_of_a_smaller_one() -> None:
    few, many = (taught(share=share).requests.instance == UNKNOWN for share in (0.2, 0.6))
    assert 10 < few.sum() < 30
    assert 50 < many.sum() < 70
    assert (many | ~few).all()


def test_quality_is_that_of_who_answered() -> None:
    result = taught(share=0.4, quality=0.5)
    early = int((result.requests.instance == UNKNOWN).sum())
    of = world(student=StudentConfig(share=0.4, quality=0.5))
    everyone = summarize(result, Promises(), of).classes[0]
    assert everyone.quality_mean == pytest.approx(1 - 0.5 * early / 100)
    assert everyone.tpot_s.p50 is not None
    assert everyone.tpot_s.curve[0] > 0
    assert everyone.output_tokens_per_s == pytest.approx(5 * (100 - early) / (result.end_us / S))


def test_a_closed_loop_goes_on_after_its_answers() -> None:
    chain = workload([0, 0], 40, 5, parents=[[], [0]], think_us=[0, 7])
    rows = run(chain, world(student=StudentConfig(share=1.0, latency_s=0.5))).requests
    assert rows.finish_us.tolist() == [S // 2, S + 7]


@pytest.mark.parametrize("wrong", [{"share": 1.1}, {"share": -0.1}, {"latency_s": -1.0}, {"quality": 2.0}])
def test_what_no_model_can_do_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        StudentConfig(**wrong)


def test_who_is_answered_early_depends_on_the_seed() -> None:
    of = world(student=StudentConfig(share=0.5))
    first, again, other = (run(workload(TIMES, 40, 5), of, seed=seed).requests.instance for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
