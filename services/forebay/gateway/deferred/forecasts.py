"""Asks the predictor what traffic that does not wait a model will get."""

import grpc
from lmaas.common.v1 import slo_pb2
from lmaas.predictor.v1 import predictor_service_pb2
from lmaas.predictor.v1.predictor_service_pb2_grpc import PredictorServiceStub

from forebay.core.units import US_PER_S
from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.deferred.pacing import Demand
from forebay.wire.convert import duration

_TIMEOUT_S = 10.0
_CLASSES = (slo_pb2.SLO_CLASS_INTERACTIVE_FAST, slo_pb2.SLO_CLASS_INTERACTIVE_NORMAL)


class Forecasts:
    """The predictor as a place to ask; a channel that is None knows nothing."""

    def __init__(self, predictor: grpc.aio.Channel | None, config: DeferredConfig) -> None:
        self._stub = PredictorServiceStub(predictor) if predictor is not None else None
        self._config = config

    async def ask(self, model: str, window_count: int) -> Demand | None:
        """Both interactive classes together, at 90 %: a valley is one even where more comes than usual.

        None where the predictor does not answer or has seen too little.
        """
        if self._stub is None:
            return None
        window_us = round(self._config.forecast_window_s * US_PER_S)
        total = [0.0] * window_count
        start_us = history_count = 0
        try:
            for slo_class in _CLASSES:
                request = predictor_service_pb2.ForecastWorkloadRequest(
                    model=model, slo_class=slo_class, window=duration(window_us), horizon_count=window_count
                )
                answer = await self._stub.ForecastWorkload(request, timeout=_TIMEOUT_S)
                history_count = max(history_count, answer.history_count)
                for number, one in enumerate(answer.forecasts[:window_count]):
                    start_us = one.start_time.ToMicroseconds() if number == 0 else start_us
                    total[number] += one.response_tokens.p90 + self._config.prompt_weight * one.prompt_tokens.p90
        except grpc.aio.AioRpcError:
            return None
        if not start_us or history_count < self._config.forecast_history_min:
            return None
        return Demand(start_us, window_us, tuple(total))
