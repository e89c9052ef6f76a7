"""A model that nobody uses has no instance; requests for it are held while one starts, so many at most."""

import numpy as np

from forebay.simulator.config import StartConfig, World
from forebay.simulator.results import STATUSES
from tests.unit.simulator.shell.worlds import S, group, run, workload, world

FINISHED = STATUSES.index("finished")
POLICY = {"predictor": {"length": "none"}, "autoscaler": {"policy": "kpa"}}


def at_zero(lead_s: float = 20.0) -> World:
    """A model at zero that needs so long to start, beside one that is there."""
    bounds = {"instances_initial": 0, "instances_min": 0, "instances_max": 2, "concurrency_target": 4.0}
    start = StartConfig(lead_s, weights_gb_per_s=0.0, warm_s=0.0)
    return world(group(**bounds), group(1, model="other"), start=start)


def test_the_first_requests_wait_for_the_start_and_all_are_answered() -> None:
    result = run(workload([10 * S + number for number in range(5)]), at_zero(), policy=POLICY)
    assert (result.requests.status == FINISHED).all()
    ttft_s = (result.requests.first_us - result.requests.arrival_us) / S
    # The start itself, and what passes until the autoscaler hears of the demand and sees the instance ready.
    assert (ttft_s > 20).all()
    assert (ttft_s < 30).all()


def test_when_all_is_quiet_the_instance_goes_and_comes_back_with_the_next_request() -> None:
    result = run(workload([10 * S, 400 * S]), at_zero(), policy=POLICY)
    assert (result.requests.status == FINISHED).all()
    ttft_s = (result.requests.first_us - result.requests.arrival_us) / S
    assert (ttft_s > 20).all()
    steps = [change.state for change in result.changes if change.instance_id.endswith("/model")]
    assert steps.count("READY") == 2


def test_beyond_the_bounded_queue_clients_hear_when_to_come_back() -> None:
    policy = {**POLICY, "scheduler": {"zero_hold_count_max": 3}}
    result = run(workload([10 * S + number * 1000 for number in range(6)]), at_zero(), policy=policy)
    held = np.flatnonzero(result.requests.status == FINISHED)
    assert list(held[:3]) == [0, 1, 2]
