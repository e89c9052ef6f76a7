import dataclasses
import tomllib
from importlib import resources

import pytest

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.predictor.build import build_engine
from forebay.predictor.config import Config


@pytest.mark.parametrize(
    "values",
    [
        {"provider": "gpu"},
        {"session_threads": 0},
        {"history_s": 0},
        {"history_points_max": -1},
        {"metrics_timeout_s": 0.0},
        {"forecast_count_max": 0},
        {"grace_s": -1.0},
        {"calibration_alpha": 0.0},
        {"calibration_alpha": 0.6},
        {"calibration_count_min": 8},
        {"calibration_window_count": 20},
        {"calibration_window_count": 10_001},
        {"drift_window_count": -1},
        {"promote": "never"},
        {"promote_count_min": 0},
        {"shadow_count_max": 0},
        {"lenght": "histogram"},
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"predictor|lenght"):
        from_mapping(Config, values, "predictor")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"length": "oracle"}, "oracle"),
        ({"forecaster": "prophet"}, "prophet"),
        ({"parameters": {"histogramm": {}}}, "histogramm"),
        ({"parameters": {"histogram": {"windows": 3}}}, "windows"),
        ({"parameters": {"input_ratio": {"ratio": -1.0}}}, "ratio"),
        ({"parameters": {"seasonal": {"season_s": 0}}}, "season_s"),
    ],
)
def test_unknown_policies_and_parameters_are_named(values: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build_engine(from_mapping(Config, values, "predictor"))


def test_parameters_reach_their_policy() -> None:
    config = from_mapping(Config, {"length": "input_ratio", "parameters": {"input_ratio": {"ratio": 3.0}}}, "predictor")
    assert [model.name for model in build_engine(config).models() if model.active] == ["input_ratio", "least_cost"]


def test_the_example_is_the_default() -> None:
    text = resources.files("forebay.predictor").joinpath("example.toml").read_text()
    found = from_mapping(Config, tomllib.loads(text)["predictor"], "predictor")
    assert dataclasses.replace(found, parameters={}) == Config()
    build_engine(found)
