"""The spans of each decision: from a request's arrival to its answer, with the question to the predictor inside."""

from collections.abc import Iterable, Sequence

import grpc
from lmaas.predictor.v1.length_pb2 import LengthQuery

from forebay.core.scheduling import Answer, Placement
from forebay.core.units import US_PER_S
from forebay.core.values import InferenceRequest
from forebay.wire.tracing import OFF, TRACEPARENT, Span, Tracer

_PREDICT = {
    "rpc.system": "grpc",
    "rpc.service": "lmaas.predictor.v1.PredictorService",
    "rpc.method": "PredictLength",
}
_WITHDRAWN = "CANCELLED"


class Traces:
    """Follows by their ids the requests that came with a traceparent; of the others it hears nothing."""

    def __init__(self, tracer: Tracer = OFF) -> None:
        self._tracer = tracer
        self.open: dict[str, Span] = {}
        """Spans of requests without an answer. Empty: there is nothing to tell."""

    def begin(self, request: InferenceRequest, traceparent: str) -> None:
        """A request arrived: it joins the trace of its sender, and begins one where that is empty.

        A request that is repeated stays one.
        """
        if not self._tracer.is_on or request.request_id in self.open:
            return
        attributes: dict[str, str | int | float | bool] = {
            "gen_ai.request.model": request.model,
            "forebay.request_id": request.request_id,
            "forebay.slo_class": request.slo_class.name.lower(),
            "forebay.prompt_tokens": request.prompt_tokens,
        }
        span = self._tracer.begin(f"place {request.model}", "server", {TRACEPARENT: traceparent}, attributes)
        if span is not None:
            self.open[request.request_id] = span

    def predicting(self, queries: Iterable[LengthQuery]) -> Sequence[Span]:
        """The predictor is asked: names in each query its place in its trace. Gives the spans to end with the call."""
        spans = []
        for query in queries if self.open else ():
            deciding = self.open.get(query.query_id)
            if deciding is not None:
                span = deciding.child("predict", "client", _PREDICT)
                query.traceparent = span.traceparent
                spans.append(span)
        return spans

    def held(self, request_id: str) -> None:
        """The request was not answered at once."""
        span = self.open.get(request_id)
        if span is not None:
            span.note("held")

    def answered(self, answer: Answer) -> None:
        """The request got its answer."""
        span = self.open.pop(answer.request_id, None)
        if span is None:
            return
        span.set({"forebay.decision_id": answer.decision_id})
        if not isinstance(answer, Placement):
            span.end(answer.reason)
            return
        span.note("placed", {"forebay.instance_id": answer.instance_id})
        span.set(
            {
                "forebay.instance_id": answer.instance_id,
                "forebay.held_s": answer.held_us / US_PER_S,
                "forebay.predicted_p50": answer.predicted.p50,
                "forebay.predicted_p90": answer.predicted.p90,
                "forebay.predicted_by": answer.predicted_by,
            }
        )
        span.end()

    def left(self, request_id: str) -> None:
        """Nobody waits for the answer any more."""
        span = self.open.pop(request_id, None)
        if span is not None:
            span.end(_WITHDRAWN)


def end_all(spans: Iterable[Span], error: grpc.RpcError | None = None) -> None:
    """Ends the spans of one call, which failed with the error if there is one."""
    name = error.code().name if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
    for span in spans:
        span.end(name if error is not None else "")
