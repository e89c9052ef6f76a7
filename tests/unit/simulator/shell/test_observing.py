"""What metrics sees and whom it tells, in virtual time."""

from forebay.core.metrics import RequestStatus
from forebay.core.scheduling import Placement
from forebay.core.values import InferenceRequest, LengthQuantiles
from forebay.gateway.values import RequestRecord
from forebay.gateway.values import RequestStatus as GatewayStatus
from forebay.simulator.config import ObservationConfig
from forebay.simulator.shell.observing import record_of
from tests.unit.simulator.shell.stage import Stage, group, slow_start, world

STATIC = {"policy": "static"}
RECORD = RequestRecord(
    request=InferenceRequest("r1", "m", 100, tenant="t", application="a", region="east"),
    status=GatewayStatus.OK,
    arrival_us=5_000,
    placed_us=6_000,
    first_token_us=9_000,
    end_us=30_000,
    placement=Placement("r1", "l1", "d1", "i1", "", LengthQuantiles(1, 2, 3, 4), "p", 0),
    prompt_tokens=101,
    response_tokens=20,
    attempt_count=2,
    error_reason="",
    censored=True,
)


def test_readings_are_those_of_the_engine_at_the_time() -> None:
    stage = Stage(world(), STATIC).until(2.99)
    for row in range(12):
        stage.place(row, "local-1/m")
    stage.until(3)
    at_us, loads = stage.scheduler.seen[3]
    assert at_us == 3_000_000
    view = stage.context.kernel.view(0)
    assert (loads[0].running_count, loads[0].waiting_count) == (view.running_count, view.waiting_count)
    assert view.running_count + view.waiting_count == 12
    assert loads[0].kv_utilization == (view.block_count - view.free_block_count) / view.block_count > 0
    stage.until(60)
    assert stage.scheduler.seen[-1][1][0].success_total == 12


def test_between_two_readings_snapshots_show_the_older_one() -> None:
    stage = Stage(world(observation=ObservationConfig(scrape_s=5.0)), STATIC).until(1.5)
    stage.place(0, "local-1/m")
    stage.until(11)
    seen = {at_us // 1_000_000: loads[0].seen_us // 1_000_000 for at_us, loads in stage.scheduler.seen if loads}
    assert seen == {5: 5, 6: 5, 7: 5, 8: 5, 9: 5, 10: 10, 11: 10}


def test_an_instance_that_starts_is_unreachable_until_it_is_read() -> None:
    stage = Stage(world(start=slow_start()), {"policy": "kpa"})
    stage.concurrency["m"] = lambda now_s: 15
    stage.until(60)
    ready_s = next(at_s for at_s, instance_id, state in stage.steps if (instance_id, state) == ("local-2/m", "READY"))
    shown = {
        at_us / 1e6: load.reachable
        for at_us, loads in stage.scheduler.seen
        for load in loads
        if load.instance_id == "local-2/m"
    }
    # It starts at 4; its server answers 10 s later, although the model is not loaded before 34.
    assert ready_s == 34.0
    assert shown[13.0] is False
    assert shown[14.0] is True
    assert stage.scheduler.seen[33][1][1].running_count is None


def test_records_count_in_the_minute_after_they_ended() -> None:
    stage = Stage(world(), STATIC).until(10)
    stage.fleet.reported(RECORD)
    model = stage.until(11).fleet.metrics.snapshot().models[0]
    assert (model.ended_count, model.prompt_tokens, model.response_tokens, model.ttft_p50_s) == (1, 101, 20, 0.004)
    stage.until(61)
    assert stage.fleet.metrics.snapshot().models[0].ended_count == 0


def test_a_gateways_record_reaches_metrics_whole() -> None:
    kept = record_of(RECORD)
    assert (kept.request_id, kept.model, kept.tenant, kept.application, kept.region) == ("r1", "m", "t", "a", "east")
    assert (kept.arrival_us, kept.held_us, kept.ttft_us, kept.end_to_end_us) == (5_000, 1_000, 4_000, 25_000)
    assert (kept.instance_id, kept.decision_id, kept.predicted_by) == ("i1", "d1", "p")
    assert (kept.status, kept.attempt_count, kept.censored) == (RequestStatus.OK, 2, True)
    assert kept.predicted_length == LengthQuantiles(1, 2, 3, 4)


def test_the_queue_of_the_scheduler_reaches_the_autoscaler() -> None:
    stage = Stage(world(group(instances_max=3)), {"policy": "kpa"})
    stage.concurrency["m"] = lambda now_s: 29
    stage.until(4)
    assert len(stage.states()) == 3
