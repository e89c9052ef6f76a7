"""Translation between Envoy's messages and the values of an exchange."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import struct_pb2
from lmaas.extproc import external_processor_pb2 as pb

from forebay.core.errors import ForebayError, ResourceExhausted
from forebay.gateway import shape

DESTINATION = "x-gateway-destination-endpoint"
SUBSET = f"{DESTINATION}-subset"
SERVED = f"{DESTINATION}-served"
_NAMESPACE, _SUBSET_NAMESPACE = "envoy.lb", "envoy.lb.subset_hint"
_DROPPED_REASON = "x-llm-d-request-dropped-reason"
_EXPIRED = "HELD_TOO_LONG"
_OVERWRITE = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_DUPLEX = (pb.FULL_DUPLEX_STREAMED, pb.NONE)
_RETRY_AFTER = {"retry-after": "1", "retry-after-ms": "100"}


def headers(message: pb.HeaderMap) -> dict[str, str]:
    """Headers by name; of several with one name the first one counts."""
    found: dict[str, str] = {}
    for one in message.headers:
        found.setdefault(one.key, one.raw_value.decode("latin-1") if one.raw_value else one.value)
    return found


def is_duplex(message: pb.ProcessingRequest) -> tuple[bool, bool]:
    """Whether the bodies of request and response come in mode FULL_DUPLEX_STREAMED, or not at all.

    A proxy that does not tell is taken to do so, as the endpoint picker protocol demands.
    """
    if not message.HasField("protocol_config"):
        return True, True
    config = message.protocol_config
    return config.request_body_mode == pb.FULL_DUPLEX_STREAMED, config.response_body_mode in _DUPLEX


def subset(message: pb.ProcessingRequest) -> frozenset[str] | None:
    """The endpoints that may be chosen; None where all may."""
    fields = message.metadata_context.filter_metadata.get(_SUBSET_NAMESPACE, struct_pb2.Struct()).fields
    if SUBSET not in fields:
        return None
    value = fields[SUBSET]
    texts = [one.string_value for one in value.list_value.values] or [value.string_value]
    return frozenset(one.strip() for text in texts for one in text.split(",") if one.strip())


def served(message: pb.ProcessingRequest, named: Mapping[str, str]) -> str:
    """The endpoint that answers, by the proxy's metadata or else by its header; empty where it does not tell."""
    fields = message.metadata_context.filter_metadata.get(_NAMESPACE, struct_pb2.Struct()).fields
    return (fields[SERVED].string_value if SERVED in fields else "") or named.get(SERVED, "")


def status(named: Mapping[str, str]) -> int:
    """The HTTP status of a response's head."""
    text = named.get(":status", "")
    return int(text) if text.isdecimal() else 0


def request_head(endpoints: str, named: Mapping[str, str]) -> pb.ProcessingResponse:
    """Lets the head go on to the endpoints, with these headers."""
    answer = pb.ProcessingResponse(request_headers=_changed({DESTINATION: endpoints, **named}))
    answer.request_headers.response.clear_route_cache = True
    answer.dynamic_metadata.update({_NAMESPACE: {DESTINATION: endpoints}})
    return answer


def request_body(piece: bytes, is_last: bool) -> pb.ProcessingResponse:
    """Lets a piece of the request's body go on."""
    return pb.ProcessingResponse(request_body=_streamed(piece, is_last))


def request_trailers() -> pb.ProcessingResponse:
    """Lets the trailers go on."""
    return pb.ProcessingResponse(request_trailers=pb.TrailersResponse())


def response_head(named: Mapping[str, str], is_retry_due: bool) -> pb.ProcessingResponse:
    """Lets the head of the response go on with these headers."""
    answer = pb.ProcessingResponse(response_headers=_changed({**named, **(_RETRY_AFTER if is_retry_due else {})}))
    # Where instances are is nobody's business outside.
    answer.response_headers.response.header_mutation.remove_headers.append(SERVED)
    return answer


def response_body(piece: bytes, is_last: bool, is_duplex: bool) -> pb.ProcessingResponse:
    """Lets a piece of the response's body go on."""
    return pb.ProcessingResponse(response_body=_streamed(piece, is_last) if is_duplex else pb.BodyResponse())


def response_trailers() -> pb.ProcessingResponse:
    """Lets the trailers go on."""
    return pb.ProcessingResponse(response_trailers=pb.TrailersResponse())


def refusal(error: ForebayError, named: Mapping[str, str]) -> pb.ProcessingResponse:
    """The client gets the error in OpenAI's form, and where the request was dropped, llm-d's word for why."""
    code, own, body = shape.failure(error)
    reason = dropped_reason(error)
    told = {**named, **own, "content-type": "application/json", **({_DROPPED_REASON: reason} if reason else {})}
    answer = pb.ProcessingResponse()
    immediate = answer.immediate_response
    immediate.status.code, immediate.body, immediate.details = code, body, f"forebay_{error.code.lower()}"
    immediate.headers.CopyFrom(_mutation(told))
    return answer


def dropped_reason(error: ForebayError) -> str:
    """Why a request was dropped, in llm-d's words (its header x-llm-d-request-dropped-reason); empty if it was not."""
    if not isinstance(error, ResourceExhausted):
        return ""
    return "rejected-ttl-expired" if error.code == _EXPIRED else "rejected-saturated"


def _changed(named: Mapping[str, str]) -> pb.HeadersResponse:
    return pb.HeadersResponse(response=pb.CommonResponse(header_mutation=_mutation(named)))


def _mutation(named: Mapping[str, str]) -> pb.HeaderMutation:
    return pb.HeaderMutation(set_headers=[_header(name, value) for name, value in named.items()])


def _header(name: str, value: str) -> pb.HeaderValueOption:
    raw: Any = pb.HeaderValue(key=name, raw_value=value.encode("ascii", "replace"))
    return pb.HeaderValueOption(header=raw, append_action=_OVERWRITE)


def _streamed(piece: bytes, is_last: bool) -> pb.BodyResponse:
    streamed = pb.StreamedBodyResponse(body=piece, end_of_stream=is_last)
    return pb.BodyResponse(response=pb.CommonResponse(body_mutation=pb.BodyMutation(streamed_response=streamed)))
