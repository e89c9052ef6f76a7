"""The gateway's shell: attempts, what follows when they fail, and what the scheduler hears meanwhile."""

from typing import Any

import pytest

from forebay.core.values import Outcome
from forebay.simulator.config import Fault, NetworkConfig
from forebay.simulator.results import UNKNOWN
from forebay.simulator.shell.journal import Entry, Journal
from tests.unit.simulator.shell.worlds import S, group, run, workload, world

FINISHED, REJECTED, FAILED, _ = range(4)
QUIET: dict[str, Any] = {"predictor": {"length": "none"}}


def fault(kind: str, at_s: float, **given: Any) -> Fault:
    return Fault(at_s=at_s, kind=kind, model="model", **given)


def events(journal: Journal, part: str, event: str) -> list[Entry]:
    return [entry for entry in journal.entries if (entry.part, entry.event) == (part, event)]


def test_a_request_whose_instance_ends_before_the_first_token_is_tried_elsewhere() -> None:
    result = run(workload([0], 1_500), world(group(2), faults=(fault("crash", 0.1),)))
    assert result.requests.status.tolist() == [FINISHED]
    assert result.requests.attempt_count.tolist() == [2]
    assert result.instances[result.requests.instance[0]] == "local-2/model"


def test_an_answer_that_has_begun_is_broken_off() -> None:
    result = run(workload([0], 40, 500), world(group(2), faults=(fault("crash", 1.0),)))
    assert result.requests.status.tolist() == [FAILED]
    assert result.requests.attempt_count.tolist() == [1]
    assert result.rejections == {"ABORTED": 1}
    assert result.requests.first_us.tolist() == [UNKNOWN]


def test_an_instance_without_a_first_token_is_given_up_after_a_while() -> None:
    policy = {**QUIET, "gateway": {"first_token_timeout_s": 2.0}}
    load = workload([0], 1_500)
    result = run(load, world(group(2), faults=(fault("hang", 0.1, duration_s=100.0),)), policy=policy)
    assert result.requests.status.tolist() == [FINISHED]
    assert result.requests.attempt_count.tolist() == [2]
    assert 2 * S < result.requests.finish_us[0] < 4 * S


@pytest.mark.parametrize(("output_tokens", "local_ms"), [(500, 0.0), (20, 1_800.0)], ids=("on", "on its way back"))
def test_an_answer_that_has_begun_unheard_is_not_given_up(output_tokens: int, local_ms: float) -> None:
    policy = {**QUIET, "gateway": {"first_token_timeout_s": 2.0, "progress_interval_s": 100.0}}
    of = world(group(2), network=NetworkConfig(local_ms=local_ms))
    result = run(workload([0], 40, output_tokens), of, policy=policy)
    assert result.requests.finish_us[0] > 2 * S > result.requests.first_us[0]
    assert result.requests.attempt_count.tolist() == [1]


def test_an_instance_that_falls_silent_in_an_answer_is_given_up_after_a_while() -> None:
    policy = {**QUIET, "gateway": {"inter_token_timeout_s": 2.0}}
    load = workload([0], 40, 500)
    result = run(load, world(group(2), faults=(fault("hang", 1.0, duration_s=100.0),)), policy=policy)
    assert result.requests.status.tolist() == [FAILED]
    assert result.rejections == {"DEADLINE_EXCEEDED": 1}
    assert 3 * S <= result.end_us <= 5 * S


def test_a_hang_that_ends_in_time_only_delays_the_answer() -> None:
    load = workload([0], 40, 100)
    plain = run(load, world(group(1)))
    hung = run(load, world(group(1), faults=(fault("hang", 0.5, duration_s=5.0),)))
    assert hung.requests.finish_us[0] == plain.requests.finish_us[0] + 5 * S


def test_leases_are_renewed_with_what_has_been_generated() -> None:
    journal = Journal()
    run(workload([0], 40, 400), world(group(1)), journal=journal)
    told = [entry.arguments[1] for entry in events(journal, "scheduler", "on_progress")]
    assert len(told) == 4
    assert told == sorted(set(told))
    assert 0 < told[0] < 400


def test_an_answer_that_takes_longer_than_its_lease_keeps_it() -> None:
    journal = Journal()
    policy = {**QUIET, "scheduler": {"lease_ttl_s": 1.0}}
    run(workload([0, 0], 40, 400), world(group(1)), policy=policy, journal=journal)
    (first, second) = events(journal, "scheduler", "on_finish")
    assert first.arguments[1:3] == (Outcome.STOPPED, 400)
    assert any(type(action).__name__ == "Observe" for action in second.answer)


def test_a_request_that_is_on_its_way_when_its_instance_ends_is_tried_elsewhere() -> None:
    near = NetworkConfig(local_ms=400.0)
    result = run(workload([0]), world(group(2), network=near, faults=(fault("crash", 0.1),)))
    assert result.requests.status.tolist() == [FINISHED]
    # There in vain, the bad news back, and there and back again.
    assert result.requests.first_us[0] > 800_000


def test_a_model_without_an_instance_refuses_after_its_patience() -> None:
    load = workload([0, 2 * S], 40, [500, 20], deadline_us=[0, S])
    result = run(load, world(group(1), faults=(fault("crash", 1.0),)))
    assert result.requests.status.tolist() == [FAILED, REJECTED]
    assert result.rejections == {"ABORTED": 1, "NO_INSTANCE_READY": 1}
    assert result.end_us == 3 * S
