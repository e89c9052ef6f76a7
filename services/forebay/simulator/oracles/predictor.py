"""Puts the predictor of a run together: the live service's, with an oracle where the arm names one."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from forebay.core.config import from_mapping
from forebay.core.prediction import ModelKind, PredictorModel
from forebay.predictor.build import FALLBACK, build_engine, build_forecasting, who_of
from forebay.predictor.config import Config
from forebay.predictor.engine import Loaded, PredictorEngine
from forebay.predictor.policy.length import LengthPredictor
from forebay.simulator.oracles import FORECAST_ORACLES, LENGTH_ORACLES, RECORDED
from forebay.simulator.oracles.forecast import ClairvoyantForecast
from forebay.simulator.shell.forecasting import Forecast, Forecasters, LiveForecasts
from forebay.simulator.workload.base import Workload


def build_predictor(config: Config, workload: Workload) -> PredictorEngine:
    """The engine with the predictor that the configuration names, oracles included, answering.

    Raises ConfigError for unknown names or parameters.
    """
    lengths = {**LENGTH_ORACLES, **RECORDED}
    oracles = {**lengths, **FORECAST_ORACLES}
    engine = build_engine(
        replace(
            config,
            length=FALLBACK if config.length in lengths else config.length,
            forecaster=Config().forecaster if config.forecaster in FORECAST_ORACLES else config.forecaster,
            parameters={name: table for name, table in config.parameters.items() if name not in oracles},
        )
    )
    if config.length in lengths:
        name, parameters = config.length, config.parameters.get(config.length, {})
        oracle: type[LengthPredictor] = lengths[name]
        policy = from_mapping(oracle, {"workload": workload, **parameters}, f"predictor.parameters.{name}")
        engine.on_loaded(Loaded(PredictorModel(name, ModelKind.LENGTH), policy, is_plain=name not in RECORDED))
        engine.on_activate(ModelKind.LENGTH, name)
    return engine


def forecasts_of(
    config: Config, engine: PredictorEngine, workload: Workload, delay_us: int
) -> tuple[Forecasters, Callable[[int], int]]:
    """Who forecasts each series, the live forecasting engine or an oracle, and who tells of refits that have ended."""
    oracle = FORECAST_ORACLES.get(config.forecaster)
    if oracle is not None:
        where, parameters = f"predictor.parameters.{config.forecaster}", config.parameters.get(config.forecaster, {})
        wrong = from_mapping(oracle, {"workload": workload, **parameters}, where)
        return partial(_oracle_of, wrong), lambda _: 0
    live = LiveForecasts(build_forecasting(config), who_of(config, engine), delay_us)
    return live.of, live.settle


def _oracle_of(oracle: ClairvoyantForecast, model: str, region: str = "", slo_class: int = 0) -> Forecast:
    return replace(oracle, model=model, region=region, slo_class=slo_class).forecast
