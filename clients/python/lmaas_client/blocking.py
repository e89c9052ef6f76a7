"""The blocking client: the verbs of the asynchronous one."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from lmaas.autoscaler.v1 import autoscaler_service_pb2
from lmaas.autoscaler.v1.autoscaler_service_pb2_grpc import AutoscalerServiceStub
from lmaas.common.v1 import instance_pb2
from lmaas.predictor.v1 import length_pb2
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub
from lmaas.scheduler.v1 import decision_pb2, request_pb2, scheduler_service_pb2, status_pb2
from lmaas.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

from lmaas_client import requests
from lmaas_client.calls import answer, stream
from lmaas_client.channels import Tls, open_blocking


class Client:
    """Talks to predictor, scheduler and autoscaler; use it as a context manager. Safe to share between threads.

    Every verb raises ForebayError, within `timeout_s` seconds at the latest; a watch has no deadline. Plaintext unless
    `tls` is given. The first of `interceptors`, gRPC's own, is the outermost.
    """

    def __init__(
        self,
        addresses: requests.Addresses | None = None,
        timeout_s: float = 10.0,
        *,
        tls: Tls | None = None,
        interceptors: Sequence[Any] = (),
    ) -> None:
        where = addresses or requests.Addresses()
        self._timeout_s = timeout_s
        self._channels = [
            open_blocking(address, tls, interceptors)
            for address in (where.scheduler, where.predictor, where.autoscaler)
        ]
        self._scheduler = SchedulerServiceStub(self._channels[0])
        self._predictor = PredictorServiceStub(self._channels[1])
        self._autoscaler = AutoscalerServiceStub(self._channels[2])

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels:
            channel.close()

    def predict(self, *wanted: request_pb2.InferenceRequest) -> Sequence[length_pb2.LengthPrediction]:
        """Predicted answer lengths, in the order of the requests."""
        message = requests.predict_message(wanted)
        return answer(lambda: self._predictor.PredictLength(message, timeout=self._timeout_s)).predictions

    def place(self, request: request_pb2.InferenceRequest) -> request_pb2.Placement:
        """Waits for an instance. Placing the same request_id again gives the same placement."""
        message = scheduler_service_pb2.PlaceRequest(request=request)
        return answer(lambda: self._scheduler.Place(message, timeout=self._timeout_s)).placement

    def progress(self, lease_id: str, generated_tokens: int) -> None:
        """Renews a lease."""
        self._report(requests.progress_message(lease_id, generated_tokens))

    def finish(
        self, lease_id: str, outcome: request_pb2.Outcome, generated_tokens: int, prompt_tokens: int = 0
    ) -> None:
        """Ends a lease."""
        self._report(requests.finish_message(lease_id, outcome, generated_tokens, prompt_tokens))

    def cancel(self, request_id: str) -> None:
        """Withdraws a request, placed or not."""
        self._report(requests.cancel_message(request_id))

    def explain(self, decision_id: str) -> decision_pb2.Decision:
        """The record of one decision of the scheduler."""
        message = scheduler_service_pb2.ExplainRequest(decision_id=decision_id)
        return answer(lambda: self._scheduler.Explain(message, timeout=self._timeout_s)).decision

    def instances(self, model: str = "") -> list[status_pb2.ScheduledInstance]:
        """The instances with the load that the scheduler has put on them, by id; `model` selects one model."""
        found: list[status_pb2.ScheduledInstance] = []
        message = scheduler_service_pb2.ListInstancesRequest(model=model)
        while True:
            page = answer(lambda: self._scheduler.ListInstances(message, timeout=self._timeout_s))
            found += page.instances
            if not page.next_page_token:
                return found
            message.page_token = page.next_page_token

    def fleet(self, model: str = "") -> autoscaler_service_pb2.GetFleetResponse:
        """The fleet as the autoscaler sees it, with bounds, policy and forecasts; `model` selects one model."""
        message = autoscaler_service_pb2.GetFleetRequest(model=model)
        return answer(lambda: self._autoscaler.GetFleet(message, timeout=self._timeout_s))

    def watch_fleet(self, model: str = "") -> Iterator[Sequence[instance_pb2.Instance]]:
        """The fleet now and after every change, for ever; `model` selects one model. Leaving the loop ends the call."""
        for message in stream(self._autoscaler.WatchFleet(autoscaler_service_pb2.WatchFleetRequest(model=model))):
            yield message.instances

    def _report(self, message: scheduler_service_pb2.ReportRequest) -> None:
        answer(lambda: self._scheduler.Report(message, timeout=self._timeout_s))
