"""Puts the forecasts of the service together; called by its composition root alone."""

from prometheus_client import CollectorRegistry

from forebay.core.units import US_PER_S
from forebay.plugins import with_plugins
from forebay.predictor.build import build_forecasting, who_of
from forebay.predictor.config import Config
from forebay.predictor.engine import PredictorEngine
from forebay.predictor.policy.forecaster import FORECASTERS
from forebay.predictor.traffic.forecast_loop import Fitter, Forecasts, History, Limits
from forebay.predictor.traffic.refit.pool import RefitPool
from forebay.wire.clock import Clock


def build_forecasts(
    config: Config,
    engine: PredictorEngine,
    history: History,
    clock: Clock,
    registry: CollectorRegistry,
    fitter: Fitter | None = None,
) -> Forecasts:
    """Forecasts by whatever forecaster is active in `engine`, refitted by processes of their own or by `fitter`."""
    limits = Limits(
        config.history_s * US_PER_S,
        config.history_points_max,
        round(config.history_settle_s * US_PER_S),
        config.forecast_deadline_s,
        config.forecast_count_max,
    )
    fits = fitter or RefitPool(config.refit_processes, config.refit_timeout_s, plugin_modules())
    return Forecasts(build_forecasting(config), who_of(config, engine), history, fits, clock, registry, limits)


def plugin_modules() -> tuple[str, ...]:
    """The packages of installed forecasters that are not ours."""
    packages = {one.__module__.partition(".")[0] for one in with_plugins("forecaster", FORECASTERS).values()}
    return tuple(sorted(packages - {"forebay"}))
