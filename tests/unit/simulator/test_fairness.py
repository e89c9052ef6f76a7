"""The figures of tenants beside each other, normalised latency, and deadlines."""

from dataclasses import replace

import numpy as np
import pytest

from forebay.core.promises import Promise, Promises
from forebay.core.values import SloClass
from forebay.simulator.fairness import TenantSummary, jain, summarize_tenants
from forebay.simulator.statistics import MEASURES
from forebay.simulator.summary import Summary, summarize
from tests.unit.simulator.made import UNFINISHED, WORLD, S, columns, result

SLO = Promises(interactive_normal=Promise(ttft_s=1.0), deferred=Promise())
VALUE = {measure.key: measure.value for measure in MEASURES}


def summary_of(first_us: list[int], tenants: tuple[str, ...] = ("a", "b"), **given: object) -> Summary:
    rows = columns([0] * len(first_us), first_us, [one + 10 * S for one in first_us], **given)  # type: ignore[arg-type]
    return summarize(replace(result(rows), tenants=tenants), SLO, WORLD)


def test_jains_index_is_one_where_all_are_alike_and_one_over_n_where_one_has_all() -> None:
    assert jain(np.array([0.3, 0.3, 0.3])) == pytest.approx(1.0)
    assert jain(np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(0.25)
    assert jain(np.zeros(3)) == 1.0


def test_a_single_tenant_is_not_compared() -> None:
    assert summary_of([0, 0], tenants=("a",)).tenants == TenantSummary(1)


def test_the_worst_tenant_and_the_light_ones_are_told() -> None:
    """Tenant a asks three times and is late once; b asks once, in time."""
    made = summary_of([0, 0, 2 * S, 0], tenant=[0, 0, 0, 1])
    assert made.tenants.tenant_count == 2
    assert made.tenants.worst_attainment == pytest.approx(2 / 3)
    assert made.tenants.light_attainment == 1.0
    assert made.tenants.jain == pytest.approx(jain(np.array([2 / 3, 1.0])))


def test_a_tenant_that_sent_nothing_is_no_tenant() -> None:
    assert summary_of([0, 0], tenants=("a", "idle", "b"), tenant=[0, 2]).tenants.tenant_count == 2


def test_nobody_counts_as_met_who_did_not() -> None:
    rows = columns([0, 0], [0, 0], [S, S], tenant=[0, 1])
    made = summarize_tenants(replace(result(rows), tenants=("a", "b")), np.array([False, False]))
    assert (made.worst_attainment, made.light_attainment, made.jain) == (0.0, 0.0, 1.0)


def test_normalised_latency_is_the_whole_time_over_the_tokens_of_the_answer() -> None:
    one = summary_of([0], output_tokens=[50]).classes[0]
    assert one.normalized_s.mean == pytest.approx(0.2)


def test_unfinished_requests_miss_their_deadlines_and_those_without_one_do_not_count() -> None:
    made = summary_of(
        [0] * 4,
        slo_class=[int(SloClass.DEFERRED)] * 4,
        status=[0, 0, UNFINISHED, 0],
        deadline_us=[11 * S, 9 * S, 11 * S, 0],
    )
    one = made.classes[0]
    assert (one.deadline_count, one.deadline_met_count) == (3, 1)
    assert VALUE["deadline"](made, one) == pytest.approx(1 / 3)


def test_without_deadlines_or_tenants_there_is_no_figure() -> None:
    made = summary_of([0], tenants=("a",))
    assert VALUE["deadline"](made, made.classes[0]) is None
    assert VALUE["jain"](made, made.classes[0]) is None
