"""What the gate tells a policy that looks ahead: the wait in the order that is really kept."""

from typing import Any

import pytest

from forebay.core.scheduling import Placement, Retry
from forebay.core.values import Outcome, SloClass
from forebay.scheduler.engine import Engine
from tests.unit.scheduler.kit import S, engine, instance, prediction, request

NOW = 1_795_000_000 * S


def busy(orderer: str, **settings: Any) -> tuple[Engine, int]:
    """An engine whose one place is taken, where a request ends each second, and five that are due in a minute wait."""
    made = engine(
        instance("i", concurrency_max=1),
        admission="slo_feasible",
        orderer=orderer,
        hold_timeout_interactive_fast_s=999.0,
        hold_timeout_interactive_normal_s=999.0,
        **settings,
    )
    now_us = NOW
    for number in range(40):
        answers = made.on_arrive(request(f"b{number}"), prediction(9), now_us)
        lease = next(one.lease_id for one in answers if isinstance(one, Placement))
        now_us += S
        made.on_finish(lease, Outcome.STOPPED, 9, now_us)
    for number in range(6):
        made.on_arrive(request(f"w{number}"), prediction(9), now_us)
    return made, now_us


def refusal(made: Engine, now_us: int, name: str, **changes: Any) -> Retry | None:
    answers = made.on_arrive(request(name, **changes), prediction(9), now_us)
    return next((one for one in answers if isinstance(one, Retry) and one.request_id == name), None)


def test_behind_all_others_an_urgent_request_is_refused_with_the_time_to_come_back() -> None:
    made, now_us = busy("fcfs")
    refused = refusal(made, now_us, "urgent", slo_class=SloClass.INTERACTIVE_FAST)
    assert refused is not None
    assert refused.reason == "SLO_INFEASIBLE"
    # Five before it and itself, one a second, and a second until it is due.
    assert refused.retry_delay_us == pytest.approx(5 * S, rel=0.1)


def test_where_it_may_pass_them_the_same_request_is_let_in() -> None:
    made, now_us = busy("edf", ttft_slo_interactive_fast_s=1.2)
    assert refusal(made, now_us, "urgent", slo_class=SloClass.INTERACTIVE_FAST) is None


def test_a_request_that_has_time_waits_in_either_order() -> None:
    for orderer in ("fcfs", "edf"):
        made, now_us = busy(orderer)
        assert refusal(made, now_us, "patient") is None


def test_asking_ahead_leaves_the_queue_and_its_order_as_they_were() -> None:
    made, now_us = busy("vtc")
    before = made.queues(now_us)
    refusal(made, now_us, "urgent", slo_class=SloClass.INTERACTIVE_FAST, tenant="new")
    assert made.queues(now_us) == before


def test_with_a_free_place_nobody_is_refused() -> None:
    made = engine(instance("i", concurrency_max=1), admission="slo_feasible")
    assert refusal(made, NOW, "urgent", slo_class=SloClass.INTERACTIVE_FAST, deadline_us=1) is None


def test_scorpio_counts_what_runs_by_the_promise_of_its_class() -> None:
    made = engine(
        instance("i", concurrency_max=100),
        admission="scorpio",
        admission_parameters={"virtual_count_max": 3.0},
    )
    for number in range(10):
        # Deferred work is promised two seconds a token: a tenth of the tightest promise.
        assert refusal(made, NOW, f"d{number}", slo_class=SloClass.DEFERRED) is None
    assert refusal(made, NOW, "f0", slo_class=SloClass.INTERACTIVE_FAST) is None
    assert refusal(made, NOW, "f1", slo_class=SloClass.INTERACTIVE_FAST) is None
    refused = refusal(made, NOW, "f2", slo_class=SloClass.INTERACTIVE_FAST)
    assert refused is not None
    assert refused.reason == "VIRTUAL_BATCH_FULL"
