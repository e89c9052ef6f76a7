"""The question that a forecaster answers: how much traffic will the next windows bring."""

from forebay.predictor.traffic.fitting import Batched, Fitted, Forecaster, ForecastFailed, WorkloadHistory

__all__ = ["Batched", "Fitted", "ForecastFailed", "Forecaster", "WorkloadHistory"]
