"""Answers dynamo.planner.plugin.v1.PredictPlugin: a tick's observation in, the forecast of the next window out."""

from typing import Any

from lmaas.dynamo import plugin_pb2 as pb
from lmaas.dynamo.plugin_pb2_grpc import PredictPluginServicer

from forebay.core.prediction import QUANTILE_LEVELS, Quantiles, WorkloadForecast
from forebay.predictor.dynamo.told import Observed, Told
from forebay.predictor.traffic.forecast_loop import Forecasts
from forebay.wire.clock import Clock

SERVICE = "dynamo.planner.plugin.v1.PredictPlugin"


class PredictPlugin(PredictPluginServicer):
    """Learns from what the planner observes, and from nothing else; one planner a predictor.

    `forecasts` must take its history and its clock from `told`.
    """

    def __init__(self, told: Told, forecasts: Forecasts, quantile: float, clock: Clock) -> None:
        self._told = told
        self._forecasts = forecasts
        self._index = QUANTILE_LEVELS.index(quantile)
        self._clock = clock

    async def Predict(self, request: pb.PredictStageRequest, context: Any) -> pb.PredictStageResponse:
        """No opinion where the planner observed no traffic, or none that makes sense."""
        traffic = request.context.observations.traffic
        observed = Observed(traffic.duration_s, traffic.num_req, traffic.isl, traffic.osl)
        series = self._told.observe(observed, self._clock())
        if series is None:
            return pb.PredictStageResponse(reason="no traffic was observed")
        asking, answer = await self._forecasts.ask(series, 1)
        reason = f"{answer.label} from {asking.history_count} windows"
        return pb.PredictStageResponse(predictions=self._prediction(answer.forecasts[0], answer.label), reason=reason)

    def _prediction(self, forecast: WorkloadForecast, label: str) -> pb.PredictionData:
        prediction = pb.PredictionData(predicted_num_req=self._of(forecast.requests), source=f"forebay:{label}")
        # Lengths are means, so they come of the medians of both: a busy window does not have longer requests.
        requests, middle = forecast.requests, QUANTILE_LEVELS.index(0.5)
        if values(requests)[middle] > 0:
            prediction.predicted_isl = values(forecast.prompt_tokens)[middle] / values(requests)[middle]
            prediction.predicted_osl = values(forecast.response_tokens)[middle] / values(requests)[middle]
        return prediction

    def _of(self, quantiles: Quantiles) -> float:
        return values(quantiles)[self._index]


def values(quantiles: Quantiles) -> tuple[float, ...]:
    """The quantiles in the order of their levels."""
    return quantiles.p10, quantiles.p50, quantiles.p90, quantiles.p97
