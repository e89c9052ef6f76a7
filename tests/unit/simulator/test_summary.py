"""The figures of a run mean what the terms of measure say."""

import pytest

from forebay.core.promises import Promise, Promises
from forebay.core.values import SloClass
from forebay.simulator.summary import ALL, CURVE_SHARES, ProgramSummary, Summary, summarize
from tests.unit.simulator.made import FAILED, REJECTED, UNFINISHED, WORLD, S, columns, drawn, result

SLO = Promises(interactive_normal=Promise(ttft_s=1.0, tpot_ms=100.0), deferred=Promise())
FAST, NORMAL, DEFERRED = (int(one) for one in SloClass)


def summary_of(*args: object, slo: Promises = SLO, end_s: float = 10.0, **given: object) -> Summary:
    return summarize(result(columns(*args, **given), end_s=end_s), slo, WORLD)  # type: ignore[arg-type]


def test_latencies_are_times_to_the_first_token_between_tokens_and_to_the_end() -> None:
    one = summary_of([1 * S], [1.5 * S], [2.5 * S], output_tokens=[11]).classes[0]
    assert (one.ttft_s.mean, one.tpot_s.mean, one.e2e_s.mean) == (0.5, 0.1, 1.5)
    assert (one.ttft_s.p50, one.ttft_s.p99) == (0.5, 0.5)


def test_requests_that_did_not_finish_are_misses() -> None:
    status = [0, REJECTED, FAILED, UNFINISHED]
    one = summary_of([0] * 4, [1, -1, -1, -1], [2, -1, -1, -1], status=status).classes[0]
    assert (one.finished_count, one.rejected_count, one.failed_count, one.unfinished_count) == (1, 1, 1, 1)
    assert one.attainment == 0.25
    assert one.ttft_s.mean == pytest.approx(1e-6)


def test_each_limit_is_checked_and_a_limit_may_be_met_exactly() -> None:
    one = summary_of(
        [0] * 4,
        [1 * S, 1 * S + 1, 0, 0],
        [2 * S, 2 * S, 2 * S, 3 * S],
        output_tokens=[11, 11, 11, 31],
        deadline_us=[0, 0, 0, 2 * S],
    ).classes[0]
    assert (one.ttft_miss_count, one.tpot_miss_count, one.e2e_miss_count) == (1, 1, 1)
    assert one.met_count == 1


def test_a_class_without_promises_is_met_by_finishing() -> None:
    made = summary_of([0, 0], [50 * S, -1], [60 * S, -1], slo_class=[DEFERRED] * 2, status=[0, UNFINISHED])
    one = made.of_class("deferred")
    assert one is not None
    assert one.attainment == 0.5


def test_classes_are_apart_and_absent_ones_are_left_out() -> None:
    made = summary_of([0, 0, 0], [1, 1, 2 * S], [2, 2, 3 * S], slo_class=[FAST, NORMAL, NORMAL])
    assert [one.slo_class for one in made.classes] == [ALL, "interactive-fast", "interactive-normal"]
    assert [one.attainment for one in made.classes] == [2 / 3, 1.0, 0.5]


def test_the_peak_is_the_worst_five_seconds_of_time_by_token() -> None:
    """A second for 10 tokens, then 2 s and 4 s for 10 tokens each that came in the same five seconds."""
    one = summary_of([0, 5 * S, 9 * S], [1, 5 * S, 9 * S], [S, 7 * S, 13 * S], output_tokens=[10] * 3).classes[0]
    assert one.normalized_peak_s == pytest.approx(0.3)


def test_recovery_is_told_of_bursts_and_by_class() -> None:
    """A request a second, and from minute 15 on four more: those of two minutes are late but for one class."""
    calm = [second * S for second in range(1_800)]
    burst = [(900 + index // 4) * S + index for index in range(480)]
    arrivals = sorted(calm + burst)
    late = [2 * S if 900 * S <= at_us < 1_020 * S else 0 for at_us in arrivals]
    classes = [FAST if index % 2 else NORMAL for index in range(len(arrivals))]
    late = [0 if one == FAST else delay for one, delay in zip(classes, late, strict=True)]
    first = [at_us + delay for at_us, delay in zip(arrivals, late, strict=True)]
    made = summary_of(arrivals, first, first, slo_class=classes, output_tokens=[1] * len(arrivals), end_s=1_900.0)
    assert [one.recovery_s for one in made.classes] == [120.0, 0.0, 120.0]
    assert summary_of([0], [1], [1]).classes[0].recovery_s is None


def test_rates_are_over_the_run() -> None:
    one = summary_of([0, 0], [1, 2 * S], [2, 3 * S], output_tokens=[10, 30]).classes[0]
    assert (one.goodput_per_s, one.throughput_per_s, one.output_tokens_per_s) == (0.1, 0.2, 4.0)


def test_a_single_token_has_no_time_between_tokens() -> None:
    one = summary_of([0], [1], [1], output_tokens=[1]).classes[0]
    assert one.tpot_s.mean is None
    assert one.met_count == 1


def test_length_errors_count_finished_requests_with_a_prediction() -> None:
    length = (
        summary_of(
            [0] * 4,
            [1, 1, 1, -1],
            [2, 2, 2, -1],
            output_tokens=[10, 20, 30, 40],
            predicted_p50=[12, 14, -1, 40],
            predicted_p90=[15, 16, -1, 40],
            status=[0, 0, 0, FAILED],
        )
        .classes[0]
        .length
    )
    assert (length.count, length.mean_abs_error, length.median_abs_error) == (2, 4.0, 4.0)
    assert (length.within_p50, length.within_p90) == (0.5, 0.5)


def test_the_share_of_prefix_hits_is_of_placed_prompt_tokens() -> None:
    one = summary_of([0, 0], [1, -1], [2, -1], hit_tokens=[30, 0], instance=[0, -1], status=[0, REJECTED]).classes[0]
    assert one.prefix_hit_share == 0.3


def test_a_run_without_requests_has_no_shares() -> None:
    one = summary_of([], [], []).classes[0]
    assert (one.request_count, one.attainment, one.ttft_s.mean, one.prefix_hit_share) == (0, None, None, None)


def test_the_curve_is_the_distribution_at_the_known_shares() -> None:
    one = summarize(drawn("a", 1), SLO, WORLD).classes[0]
    assert len(one.ttft_s.curve) == len(CURVE_SHARES)
    assert list(one.ttft_s.curve) == sorted(one.ttft_s.curve)
    assert one.ttft_s.curve[CURVE_SHARES.index(0.5)] == pytest.approx(one.ttft_s.p50, rel=1e-5)


def test_programs_take_from_their_first_arrival_to_their_last_token() -> None:
    made = summary_of(
        [0, 2 * S, 1 * S, 1 * S, 5 * S],
        [1 * S] * 5,
        [2 * S, 4 * S, 3 * S, -1, 6 * S],
        program=[7, 7, 9, 9, -1],
        output_tokens=[10, 30, 1, 1, 1],
        status=[0, 0, 0, UNFINISHED, 0],
    ).programs
    assert (made.program_count, made.finished_count) == (2, 1)
    assert (made.e2e_s.mean, made.s_per_token.mean) == (4.0, 0.1)


def test_without_programs_there_are_no_figures_of_them() -> None:
    assert summary_of([0], [1], [2]).programs == ProgramSummary()


def test_gaps_are_those_of_answers_with_two_tokens_or_more() -> None:
    one = summary_of([0] * 3, [1] * 3, [2] * 3, gap_us=[2 * S, 4 * S, 0], output_tokens=[5, 5, 1]).classes[0]
    assert (one.gap_s.mean, one.gap_s.p50) == (3.0, 3.0)
