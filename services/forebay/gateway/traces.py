"""The spans of each request in the gateway: the whole of it, each question to the scheduler, each try of an instance.

Attributes are those of the GenAI semantic conventions, and `forebay.*` for what is ours; never a prompt or an answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from forebay.core.scheduling import Placement
from forebay.core.values import InferenceRequest
from forebay.gateway.genai import CHAT, PROVIDER, TEXT_COMPLETION, GenAi
from forebay.gateway.values import NO_PREDICTION, RequestRecord, RequestStatus
from forebay.wire.tracing import Span, Tracer, server_of

Metadata = tuple[tuple[str, str], ...]
_SCHEDULE = {
    "rpc.system": "grpc",
    "rpc.service": "lmaas.scheduler.v1.SchedulerService",
    "rpc.method": "Schedule",
}
_INFER = {"rpc.system": "grpc", "rpc.service": "inference.GRPCInferenceService", "rpc.method": "ModelStreamInfer"}
_UNNAMED = "CANCELLED"


@dataclass(slots=True)
class _Journey:
    """A request that has not ended."""

    operation: str
    whole: Span | None = None
    asking: Span | None = None
    trying: Span | None = None


_UNTRACED = {operation: _Journey(operation) for operation in (CHAT, TEXT_COMPLETION)}
"""Shared by the requests that are not traced: nothing in them is ever changed."""


class Traces:
    """Follows requests by their ids. A request that is not traced costs a look into a dict at each call."""

    def __init__(self, tracer: Tracer, genai: GenAi) -> None:
        self._tracer = tracer
        self._genai = genai
        self._journeys: dict[str, _Journey] = {}

    def begin(self, request: InferenceRequest, operation: str, headers: Mapping[str, str]) -> None:
        """A request came in; it joins the trace that its headers name."""
        whole = None
        if self._tracer.is_on:
            name = f"{operation} {request.model}"
            whole = self._tracer.begin(name, "server", headers, _attributes_of(request, operation))
        self._journeys[request.request_id] = _UNTRACED[operation] if whole is None else _Journey(operation, whole)

    def asked(self, request_id: str) -> str:
        """The scheduler is asked; gives the traceparent that goes with the question."""
        journey = self._journeys.get(request_id)
        if journey is None or journey.whole is None:
            return ""
        _end(journey.asking, _UNNAMED)
        journey.asking = journey.whole.child("schedule", "client", _SCHEDULE)
        return journey.asking.traceparent

    def placed(self, request_id: str, placement: Placement) -> None:
        """The scheduler answered with an instance, or the gateway chose one itself."""
        journey = self._journeys.get(request_id)
        if journey is None or journey.asking is None:
            return
        journey.asking.set({"forebay.decision_id": placement.decision_id})
        journey.asking.end()
        journey.asking = None

    def trying(self, request_id: str, placement: Placement) -> Metadata:
        """The request is sent to its instance; gives the metadata that go with it."""
        journey = self._journeys.get(request_id)
        if journey is None or journey.whole is None:
            return ()
        attributes = {**_INFER, **server_of(placement.grpc_address), "forebay.instance_id": placement.instance_id}
        journey.trying = journey.whole.child("infer", "client", attributes)
        return journey.trying.metadata()

    def tried(self, request_id: str, error: str = "") -> None:
        """The instance's answer ended, well or with an error."""
        journey = self._journeys.get(request_id)
        if journey is not None and journey.trying is not None:
            journey.trying.end(error)
            journey.trying = None

    def ended(self, record: RequestRecord, model: str) -> None:
        """The request ended; `model` is its model's name, or what stands for those that nobody knows."""
        journey = self._journeys.pop(record.request.request_id, _UNTRACED[CHAT])
        self._genai.ended(record, journey.operation, model)
        if journey.whole is not None:
            _end(journey.asking, record.error_reason or _UNNAMED)
            _end(journey.trying, record.error_reason or _UNNAMED if record.status is not RequestStatus.OK else "")
            _close(journey.whole, record)


def _attributes_of(request: InferenceRequest, operation: str) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": request.model,
        "gen_ai.request.max_tokens": request.tokens_max,
        "gen_ai.request.temperature": request.temperature,
        "forebay.request_id": request.request_id,
        "forebay.slo_class": request.slo_class.name.lower(),
        "forebay.tenant": request.tenant,
    }
    if request.session:
        attributes["gen_ai.conversation.id"] = request.session
    return attributes


def _close(whole: Span, record: RequestRecord) -> None:
    placed = record.placement
    if placed is not None:
        decision = {"forebay.decision_id": placed.decision_id, "forebay.instance_id": placed.instance_id}
        whole.note("placed", decision, record.placed_us)
        whole.set({**decision, **server_of(placed.grpc_address)})
        if placed.predicted != NO_PREDICTION:
            whole.set({"forebay.predicted_p50": placed.predicted.p50, "forebay.predicted_p90": placed.predicted.p90})
    if record.first_token_us:
        whole.note("first_token", at_us=record.first_token_us)
        usage = {
            "gen_ai.usage.input_tokens": record.prompt_tokens,
            "gen_ai.usage.output_tokens": record.response_tokens,
        }
        whole.set(usage)
    if record.status is RequestStatus.OK:
        whole.set({"gen_ai.response.finish_reasons": ["length" if record.censored else "stop"]})
    whole.set({"forebay.attempt_count": record.attempt_count})
    cancelled = _UNNAMED if record.status is RequestStatus.CANCELLED else ""
    whole.end(record.error_reason or cancelled)


def _end(span: Span | None, error: str) -> None:
    if span is not None:
        span.end(error)
