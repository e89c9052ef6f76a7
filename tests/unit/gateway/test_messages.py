from dataclasses import replace

from lmaas.common.v1 import instance_pb2
from lmaas.metrics.v1 import event_pb2
from lmaas.scheduler.v1 import request_pb2, scheduler_service_pb2, status_pb2

from forebay.core.errors import InvalidArgument, ModelUnknown, NoInstanceReady, PromptTooLong, ResourceExhausted
from forebay.core.scheduling import OpenLease, Placement
from forebay.core.values import InferenceRequest, InstanceState, LengthQuantiles, Outcome
from forebay.gateway import messages
from forebay.gateway.triton import name_batch, text_request
from forebay.gateway.values import NO_PREDICTION, Ask, End, Renew, RequestRecord, RequestStatus, Resume, Withdraw
from forebay.wire import validate
from forebay.wire.convert_scheduler import placement_from_proto

REQUEST = InferenceRequest("r1", "llama", prompt_tokens=10, tenant="acme")
QUANTILES = LengthQuantiles(1, 2, 3, 4)
PLACED = Placement("r1", "l", "d", "i", "host:1", QUANTILES, "model-7", 30_000_000, 500, 2, "b7", 3)


def test_actions_become_messages_that_keep_the_contract_s_rules() -> None:
    lease = OpenLease(REQUEST, "l", "i", 3, QUANTILES)
    actions = {
        "resume": Resume((lease,)),
        "arrive": Ask(REQUEST),
        "progress": Renew("l", 3),
        "finish": End("l", Outcome.LENGTH, 3, 12),
        "cancel": Withdraw("r1"),
    }
    for kind, action in actions.items():
        message = messages.to_schedule(action, "gateway-1")
        assert message.WhichOneof("event") == kind
        validate.check(message)
    resumed = messages.to_schedule(actions["resume"], "gateway-1").resume
    assert (resumed.gateway_id, resumed.open_leases[0].lease_id) == ("gateway-1", "l")
    assert resumed.open_leases[0].predicted_length.p97_tokens == 4
    ended = messages.to_schedule(actions["finish"], "gateway-1").finish
    assert (ended.outcome, ended.generated_tokens, ended.prompt_tokens) == (request_pb2.OUTCOME_LENGTH, 3, 12)


def test_a_placement_is_read_whole() -> None:
    message = request_pb2.Placement(
        lease_id="l",
        decision_id="d",
        instance_id="i",
        grpc_address="host:1",
        predicted_by="model-7",
        triton_priority=2,
        batch_id="b7",
        batch_count=3,
    )
    message.predicted_length.p10_tokens = 1
    message.predicted_length.p50_tokens = 2
    message.predicted_length.p90_tokens = 3
    message.predicted_length.p97_tokens = 4
    message.lease_ttl.FromSeconds(30)
    message.held.FromMicroseconds(500)
    assert placement_from_proto("r1", message) == PLACED


def test_rejections_and_retries_become_errors_by_their_reason() -> None:
    rejected, retry = scheduler_service_pb2.Rejected, scheduler_service_pb2.Retry
    assert type(messages.rejection(rejected(reason="MODEL_UNKNOWN"))) is ModelUnknown
    assert type(messages.rejection(rejected(reason="PROMPT_TOO_LONG"))) is PromptTooLong
    assert type(messages.rejection(rejected(reason="NEW_REASON"))) is InvalidArgument
    assert type(messages.retry(retry(reason="NO_INSTANCE_READY"))) is NoInstanceReady
    held = retry(reason="HELD_TOO_LONG", message="later")
    held.retry_delay.FromMilliseconds(1500)
    error = messages.retry(held)
    assert type(error) is ResourceExhausted
    assert (error.code, error.message, error.retry_after_us) == ("HELD_TOO_LONG", "later", 1_500_000)


def test_an_instance_that_the_scheduler_drains_is_draining() -> None:
    ready = instance_pb2.Instance(instance_id="i", model="m", state="INSTANCE_STATE_READY")
    fleet = scheduler_service_pb2.WatchInstancesResponse(
        instances=[
            status_pb2.ScheduledInstance(instance=ready),
            status_pb2.ScheduledInstance(instance=ready, draining=True),
        ]
    )
    assert [one.state for one in messages.instances(fleet)] == [InstanceState.READY, InstanceState.DRAINING]


def test_a_record_tells_prediction_beside_outcome() -> None:
    record = RequestRecord(REQUEST, RequestStatus.OK, 1000, 1500, 3000, 9000, PLACED, 12, 7, 2, "", True)
    event = messages.event(record)
    validate.check(event)
    told = event.request
    assert event.event_id == told.request_id == "r1"
    assert told.status == event_pb2.REQUEST_STATUS_OK
    assert (told.prompt_tokens, told.response_tokens, told.attempt_count, told.censored) == (12, 7, 2, True)
    assert (told.predicted_length.p50_tokens, told.predicted_by) == (2, "model-7")
    spans = (told.held, told.time_to_first_token, told.end_to_end)
    assert [span.ToMicroseconds() for span in spans] == [500, 2000, 8000]
    assert (told.instance_id, told.decision_id, told.tenant) == ("i", "d", "acme")


def test_a_record_of_a_refused_request_leaves_out_what_there_was_not() -> None:
    record = RequestRecord(REQUEST, RequestStatus.REJECTED, 1000, 0, 0, 2000, None, 10, 0, 0, "HELD_TOO_LONG", False)
    told = messages.event(record).request
    assert told.error_reason == "HELD_TOO_LONG"
    for name in ("held", "time_to_first_token", "predicted_length"):
        assert not told.HasField(name)


def test_a_request_that_the_gateway_placed_has_no_prediction() -> None:
    own = Placement("r1", "own", "", "i", "host:1", NO_PREDICTION, "", 0)
    record = RequestRecord(REQUEST, RequestStatus.OK, 1000, 1500, 3000, 9000, own, 12, 7, 1, "", False)
    assert not messages.event(record).request.HasField("predicted_length")


def test_a_request_says_which_batch_it_runs_in_and_no_other_says_so() -> None:
    message = text_request("m", "Why?", {"max_tokens": 5})
    name_batch(message, PLACED)
    assert message.parameters["batch_id"].string_param == "b7"
    assert message.parameters["batch_count"].int64_param == 3
    name_batch(message, replace(PLACED, batch_id="", batch_count=0))
    assert not {"batch_id", "batch_count"} & set(message.parameters)
