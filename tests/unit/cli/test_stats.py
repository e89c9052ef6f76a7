"""The figures of a run are those that one computes by hand."""

import pytest

from forebay.cli.stats import (
    CANCELLED,
    OK,
    Attainment,
    LengthAccuracy,
    Result,
    Spread,
    attainment,
    length_accuracy,
    spread,
    summarise,
)
from forebay.core.values import LengthQuantiles


def result(index: int = 0, **changes: object) -> Result:
    values: dict[str, object] = {
        "model": "m",
        "application": "chat",
        "slo_class": "interactive-fast",
        "sent_s": 0.0,
        "ttft_s": 0.5,
        "e2e_s": 2.5,
        "output_tokens": 11,
        "decision_id": f"d-{index}",
    }
    return Result(index=index, **{**values, **changes})  # type: ignore[arg-type]


def test_quantiles_interpolate_and_leave_out_what_was_not_measured() -> None:
    assert spread([1.0, None, 3.0, 2.0]) == Spread(2.0, pytest.approx(2.8), pytest.approx(2.98))


def test_nothing_measured_gives_no_quantiles() -> None:
    assert spread([None]) == Spread(None, None, None)


def test_tpot_is_the_time_after_the_first_token_over_the_tokens_after_it() -> None:
    assert result().tpot_s == pytest.approx(0.2)
    assert result(output_tokens=1).tpot_s is None
    assert result(ttft_s=None).tpot_s is None


def test_a_promise_is_kept_up_to_its_limit_and_broken_by_a_failure() -> None:
    results = [
        result(ttft_s=1.0),
        result(ttft_s=1.01),
        result(outcome="HTTP_503", ttft_s=None),
        result(outcome=CANCELLED, ttft_s=None),
        result(slo_class="interactive-normal", ttft_s=59.0),
        result(slo_class="deferred", ttft_s=900.0),
    ]
    assert attainment(results) == (
        Attainment("interactive-fast", 1.0, met_count=1, total_count=3),
        Attainment("interactive-normal", 60.0, met_count=1, total_count=1),
    )


def test_lengths_are_compared_with_each_quantile() -> None:
    predicted = LengthQuantiles(5, 10, 20, 30)
    results = [result(output_tokens=tokens, predicted=predicted) for tokens in (10, 14, 25, 40)]
    results.append(result(output_tokens=1_000))
    results.append(result(output_tokens=1_000, predicted=predicted, outcome="STREAM_CUT"))
    results.append(result(output_tokens=30, predicted=predicted, finish_reason="length"))
    assert length_accuracy(results) == LengthAccuracy(
        count=4, cut_count=1, median_abs_error=9.5, within_p50=0.25, within_p90=0.5, within_p97=0.75
    )


def test_without_predictions_there_is_no_accuracy() -> None:
    assert length_accuracy([result()]) == LengthAccuracy()


def test_a_summary_counts_every_request_once() -> None:
    results = [
        result(0),
        result(1, outcome="HTTP_503", ttft_s=None, output_tokens=0),
        result(2, outcome="HTTP_503", ttft_s=None, output_tokens=0),
        result(3, outcome="STREAM_CUT", output_tokens=3),
        result(4, outcome=CANCELLED, output_tokens=0),
    ]
    summary = summarise(results, wall_s=7.0)
    assert (summary.request_count, summary.ok_count, summary.failed_count, summary.cancelled_count) == (5, 1, 3, 1)
    assert dict(summary.failures) == {"HTTP_503": 2, "STREAM_CUT": 1}
    assert summary.output_tokens == 14
    assert summary.output_tokens_per_s == pytest.approx(2.0)
    assert summary.ttft_s.p50 == 0.5


def test_the_slowest_decisions_come_by_the_wait_for_their_first_token() -> None:
    results = [result(index, ttft_s=float(index % 4)) for index in range(8)] + [result(9, ttft_s=99.0, decision_id="")]
    slowest = summarise(results, wall_s=1.0).slowest
    assert [one.decision_id for one in slowest] == ["d-3", "d-7", "d-2", "d-6", "d-1"]


def test_a_run_without_requests_has_a_summary() -> None:
    summary = summarise([], wall_s=0.0)
    assert summary.request_count == 0
    assert summary.output_tokens_per_s == 0.0


def test_ok_is_not_a_failure_reason() -> None:
    assert OK not in summarise([result()], 1.0).failures
