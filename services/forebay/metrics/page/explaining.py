"""Finds the record of a decision: the scheduler's replicas each know their own."""

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from lmaas.scheduler.v1.scheduler_service_pb2 import ExplainRequest
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from forebay.core.errors import Unavailable
from forebay.wire.errors import from_rpc_error

CANDIDATE_COUNT_MAX = 200


class Explainer:
    """Asks all replicas at once; the first that knows the decision answers."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], timeout_s: float) -> None:
        self._channels = channels
        self._timeout_s = timeout_s

    async def __call__(self, decision_id: str) -> Mapping[str, Any]:
        """The record. Raises the first replica's error where none has it, and Unavailable where none answers."""
        asked = ExplainRequest(decision_id=decision_id)
        stubs = [SchedulerServiceStub(channel) for channel in self._channels.values()]
        calls = (stub.Explain(asked, timeout=self._timeout_s) for stub in stubs)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            if not isinstance(answer, BaseException):
                return explained(answer.decision)
        # Who says that it does not know the decision says more than who does not answer.
        failed = [from_rpc_error(one) for one in answers if isinstance(one, grpc.RpcError)]
        failed.sort(key=lambda one: isinstance(one, Unavailable))
        if failed and not isinstance(failed[0], Unavailable):
            raise failed[0]
        raise Unavailable("no scheduler answers; its records come back with it, unless it was restarted")


def explained(decision: Any) -> Mapping[str, Any]:
    """The record as JSON, times as ISO 8601, with the best candidates where there are very many."""
    fields: dict[str, Any] = MessageToDict(
        decision, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    fields["candidate_count"] = len(decision.candidates)
    fields["candidates"] = fields["candidates"][:CANDIDATE_COUNT_MAX]
    return fields
