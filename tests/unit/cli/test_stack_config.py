"""What `forebay up` writes is what the autoscaler reads, for every kind of fleet."""

import tomllib
from pathlib import Path

import pytest

from forebay.autoscaler.config import Config
from forebay.cli.stack_config import EMULATED_MODELS, FleetOptions, parse_models, stack_toml
from forebay.cli.up import fleet_options
from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.predictor.config import Config as PredictorConfig


def read(options: FleetOptions) -> Config:
    tables = tomllib.loads(stack_toml(options, Path("state"), 7300))
    assert set(tables) == {"autoscaler", "predictor"}
    predictor = from_mapping(PredictorConfig, tables["predictor"], "predictor")
    assert Path(predictor.models_folder) == Path("state").resolve() / "models"
    return from_mapping(Config, tables["autoscaler"], "autoscaler")


def test_an_emulated_fleet_has_its_models_with_bounds_and_answers() -> None:
    config = read(FleetOptions(instance_count=3, instance_count_max=6, answers=Path("/a b/answers.jsonl")))
    assert {model.name: model.profile for model in config.models} == EMULATED_MODELS
    first = config.models[0]
    assert (first.instances_min, first.instances_initial, first.instances_max) == (3, 3, 6)
    assert first.arguments == ("--answers", "/a b/answers.jsonl")
    assert config.port_base == 7300


def test_a_fleet_of_many_never_has_bounds_that_cross() -> None:
    assert read(FleetOptions(instance_count=9, instance_count_max=4)).models[0].instances_max == 9


def test_a_real_fleet_is_one_triton_with_the_small_model() -> None:
    config = read(FleetOptions(real=True))
    assert [(model.name, model.launcher) for model in config.models] == [("smollm2", "triton")]


def test_adopted_tritons_become_servers_with_their_metrics() -> None:
    config = read(FleetOptions(tritons=["10.0.0.5:8001=http://10.0.0.5:8002/metrics", "b:9001=http://b/m"]))
    assert config.models == ()
    assert [(one.server_id, one.grpc_address, one.metrics_url) for one in config.servers] == [
        ("triton-1", "10.0.0.5:8001", "http://10.0.0.5:8002/metrics"),
        ("triton-2", "b:9001", "http://b/m"),
    ]


@pytest.mark.parametrize("address", ["somewhere", ":8001", "host:", "host:port"])
def test_a_triton_without_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        stack_toml(FleetOptions(tritons=[address]), Path("state"), 7300)


def test_models_are_named_from_the_default_fleet_or_come_with_a_profile() -> None:
    assert parse_models(None) == EMULATED_MODELS
    assert parse_models("qwen-7b, big=H100/Llama-3-70B/tp4") == {
        "qwen-7b": EMULATED_MODELS["qwen-7b"],
        "big": "H100/Llama-3-70B/tp4",
    }


@pytest.mark.parametrize("text", ["nosuch", "=H100/Llama-3-8B", "a=H100", "llama-8b,"])
def test_a_model_that_nobody_knows_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--models"):
        parse_models(text)


def test_contradicting_fleets_are_refused() -> None:
    with pytest.raises(ConfigError, match="give one of"):
        fleet_options(2, None, ("host:1",), False, None, None)
    with pytest.raises(ConfigError, match="give one of"):
        fleet_options(None, "llama-8b", (), False, None, Path("forebay.toml"))


def test_twice_the_instances_of_the_start_are_the_most() -> None:
    options = fleet_options(3, None, (), False, None, None)
    assert (options.instance_count, options.instance_count_max) == (3, 6)
