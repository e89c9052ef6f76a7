"""What both clients share: addresses, channel options and the messages that the verbs send."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from lmaas.common.v1 import slo_pb2
from lmaas.predictor.v1 import length_pb2, predictor_service_pb2
from lmaas.scheduler.v1 import request_pb2, scheduler_service_pb2

_RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_SERVICES = [
    f"lmaas.{part}.v1.{part.capitalize()}Service"
    for part in ("predictor", "scheduler", "autoscaler", "metrics", "deferred")
]

SERVICE_CONFIG = json.dumps(
    {"methodConfig": [{"name": [{"service": name} for name in _SERVICES], "retryPolicy": _RETRY}]}
)
"""gRPC's service config, the same in all clients.

Every write carries an id that makes it safe to repeat, so one policy serves all methods.
"""

CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.service_config", SERVICE_CONFIG),
]


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services listen, host:port each; the defaults are those of `forebay up`."""

    scheduler: str = "127.0.0.1:7101"
    predictor: str = "127.0.0.1:7102"
    autoscaler: str = "127.0.0.1:7103"


def new_request(
    model: str,
    prompt: str,
    prompt_tokens: int,
    *,
    tokens_max: int = 0,
    slo_class: slo_pb2.SloClass = slo_pb2.SLO_CLASS_INTERACTIVE_NORMAL,
    tenant: str = "",
    application: str = "",
    request_id: str = "",
    turn_number: int = 0,
    system_prompt: str = "",
) -> request_pb2.InferenceRequest:
    """A request to place, with a fresh id unless one is given.

    Only the first 8,192 bytes of the prompt are sent, and of the system prompt a digest. `turn_number` is 1 for the
    first question of a conversation, 0 where that is not known. Both help to predict how long the answer will be.
    """
    return request_pb2.InferenceRequest(
        request_id=request_id or uuid.uuid4().hex,
        model=model,
        prompt_tokens=prompt_tokens,
        tokens_max=tokens_max,
        slo_class=slo_class,
        tenant=tenant,
        application=application,
        prompt_head=prompt.encode()[:8192].decode(errors="ignore"),
        turn_number=turn_number,
        system_digest=hashlib.sha256(system_prompt.encode()).hexdigest()[:16] if system_prompt else "",
    )


def length_query(request: request_pb2.InferenceRequest) -> length_pb2.LengthQuery:
    """The question for the predictor that a request stands for."""
    return length_pb2.LengthQuery(
        query_id=request.request_id,
        model=request.model,
        prompt_tokens=request.prompt_tokens,
        tokens_max=request.tokens_max,
        prompt_head=request.prompt_head,
        application=request.application,
        tenant=request.tenant,
        temperature=request.temperature,
        turn_number=request.turn_number,
        system_digest=request.system_digest,
        traceparent=request.traceparent,
    )


def predict_message(requests: Sequence[request_pb2.InferenceRequest]) -> predictor_service_pb2.PredictLengthRequest:
    """The batch of questions for the predictor."""
    return predictor_service_pb2.PredictLengthRequest(queries=[length_query(request) for request in requests])


def progress_message(lease_id: str, generated_tokens: int) -> scheduler_service_pb2.ReportRequest:
    """A renewal of a lease."""
    progress = request_pb2.Progress(lease_id=lease_id, generated_tokens=generated_tokens)
    return scheduler_service_pb2.ReportRequest(progress=progress)


def finish_message(
    lease_id: str, outcome: request_pb2.Outcome, generated_tokens: int, prompt_tokens: int
) -> scheduler_service_pb2.ReportRequest:
    """The end of a lease."""
    finish = request_pb2.Finish(
        lease_id=lease_id, outcome=outcome, generated_tokens=generated_tokens, prompt_tokens=prompt_tokens
    )
    return scheduler_service_pb2.ReportRequest(finish=finish)


def cancel_message(request_id: str) -> scheduler_service_pb2.ReportRequest:
    """The withdrawal of a request."""
    return scheduler_service_pb2.ReportRequest(cancel=request_pb2.Cancel(request_id=request_id))
