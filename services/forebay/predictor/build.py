"""Puts the predictor together from its configuration; called by the composition root alone."""

import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from forebay.core.errors import ConfigError, FailedPrecondition
from forebay.core.prediction import ModelKind, PredictorModel
from forebay.plugins import choose, with_plugins
from forebay.predictor.config import Config
from forebay.predictor.engine import Loaded, PredictorEngine
from forebay.predictor.lengths.care import Care
from forebay.predictor.lengths.remembered import Remembered
from forebay.predictor.lengths.trained import HASHED, Opening, Showing, open_trained
from forebay.predictor.loader import Loader, Opener
from forebay.predictor.policy.forecaster import FORECASTERS, Forecaster
from forebay.predictor.policy.length import LENGTH_PREDICTORS, SHOWING, TRAINED, LengthPredictor
from forebay.predictor.sessions import choose_providers
from forebay.predictor.store_files import PACKAGED, FolderModelStore
from forebay.predictor.traffic.asking import Who
from forebay.predictor.traffic.forecasting import ForecastingEngine, Settings

log = logging.getLogger(__name__)

FALLBACK = "kernel_history"
FORECAST_FALLBACK = "least_error"
"""Forecasts series that nothing is fitted to: it needs a few milliseconds and no refit."""


def build_engine(config: Config) -> PredictorEngine:
    """The engine with all models that need no file loaded. Raises ConfigError for unknown names or parameters."""
    lengths = with_plugins("length", LENGTH_PREDICTORS)
    forecasters = with_plugins("forecaster", FORECASTERS)
    _refuse_unknown(config, lengths, forecasters)
    start = FALLBACK if config.length in TRAINED else config.length
    return PredictorEngine(
        [_length(name, lengths, config) for name in sorted(lengths) if name not in TRAINED],
        [_forecaster(name, forecasters, config) for name in sorted(forecasters)],
        active={ModelKind.LENGTH: start, ModelKind.WORKLOAD: config.forecaster},
        fallback=FALLBACK,
        care=_care(config),
    )


def build_forecasting(config: Config) -> ForecastingEngine:
    """The engine that keeps what was learned of each series of traffic."""
    return ForecastingEngine(Settings(config.refit_s, config.series_max, config.history_stale_s))


def who_of(config: Config, engine: PredictorEngine) -> Callable[[], Who]:
    """Says who forecasts now, and who where nothing is fitted."""
    fallback = choose("forecaster", FORECAST_FALLBACK, FORECASTERS, config.parameters.get(FORECAST_FALLBACK, {}))

    def now() -> Who:
        return Who(engine.forecaster.label, engine.forecaster.policy, FORECAST_FALLBACK, fallback)

    return now


async def build_loader(engine: PredictorEngine, config: Config) -> Loader:
    """The loader, with a trained model answering where the configuration wants one: the version that answered last.

    One that cannot be loaded gives way to the one before it, then to the newest, then to the fallback, with a warning.
    """
    folder = Path(config.models_folder) if config.models_folder else PACKAGED
    loader = Loader(engine, FolderModelStore(folder, PACKAGED), opener(config))
    if config.length in TRAINED:
        await loader.resume(config.length)
    return loader


def opener(config: Config) -> Opener:
    """Opens trained models as the configuration wants; which execution provider to ask for is settled here, once."""
    opening = Opening(choose_providers(config.provider), config.session_threads)

    def open_model(model: PredictorModel, content: bytes) -> Loaded[LengthPredictor]:
        if model.name not in TRAINED:
            known = ", ".join(sorted(TRAINED))
            raise FailedPrecondition(f"{model.name!r} is no kind of trained model; known: {known}")
        trained = open_trained(model, content, opening)
        asked = Remembered(Showing(trained) if model.name in SHOWING else trained)
        parameters = {**config.parameters.get(model.name, {}), "model": asked, "name": model.name}
        policy = choose("length predictor", model.name, LENGTH_PREDICTORS, parameters)
        is_slow = model.metadata.get("features", HASHED) != HASHED
        return Loaded(dataclasses.replace(model, execution_provider=trained.provider), policy, is_slow=is_slow)

    return open_model


def _care(config: Config) -> Care:
    return Care(
        alpha=config.calibration_alpha,
        window_count=config.calibration_window_count,
        count_min=config.calibration_count_min,
        drift_window_count=config.drift_window_count,
        promote_count_min=config.promote_count_min,
        promotes=config.promote == "auto",
        shadow_count_max=config.shadow_count_max,
    )


def _length(name: str, policies: Mapping[str, type[LengthPredictor]], config: Config) -> Loaded[LengthPredictor]:
    policy = choose("length predictor", name, policies, config.parameters.get(name, {}))
    return Loaded(PredictorModel(name, ModelKind.LENGTH), policy)


def _forecaster(name: str, policies: Mapping[str, type[Forecaster]], config: Config) -> Loaded[Forecaster]:
    policy = choose("forecaster", name, policies, config.parameters.get(name, {}))
    return Loaded(PredictorModel(name, ModelKind.WORKLOAD), policy)


def _refuse_unknown(config: Config, lengths: Collection[str], forecasters: Collection[str]) -> None:
    for kind, name, known in (
        ("length", config.length, lengths),
        ("forecaster", config.forecaster, forecasters),
        *(("parameters", name, {*lengths, *forecasters}) for name in config.parameters),
    ):
        if name not in known:
            raise ConfigError(f"[predictor] {kind}: unknown policy {name!r}; known: {', '.join(sorted(known))}")
