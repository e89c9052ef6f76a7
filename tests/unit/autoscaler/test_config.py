"""The configuration of the autoscaler."""

import tomllib
from pathlib import Path

import pytest

import forebay.autoscaler
from forebay.autoscaler.config import LAUNCHERS, Config, ModelConfig, ServerConfig
from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError

EXAMPLE = Path(forebay.autoscaler.__file__).parent / "example.toml"


def read(text: str) -> Config:
    return from_mapping(Config, tomllib.loads(text).get("autoscaler", {}), "autoscaler")


def test_the_example_is_valid_and_shows_the_defaults() -> None:
    config = read(EXAMPLE.read_text())
    assert [model.launcher for model in config.models] == list(LAUNCHERS)
    default = Config()
    for key in ("policy", "mode", "instances_max", "step_instances_max", "tick_s", "drain_quiet_s", "port_base"):
        assert getattr(config, key) == getattr(default, key)


def test_nothing_configured_is_an_empty_fleet() -> None:
    assert read("") == Config()


def test_a_misspelt_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'instances_min'"):
        read('[[autoscaler.models]]\nname = "a"\ninstances_mn = 1')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('mode = "maybe"', "mode must be one of active, advisory"),
        ("tick_s = 0.0", "tick_s must be positive"),
        ("backoff_s_max = 0.5", "backoff_s_max must not be less"),
        ("step_instances_max = 0", "step_instances_max must be at least 1"),
        ("port_base = 70000", "port_base"),
        ('[[autoscaler.models]]\nlauncher = "emulator"', "every model needs a name"),
        ('[[autoscaler.models]]\nname = "a"\nlauncher = "magic"', "launcher must be one of"),
        ('[[autoscaler.models]]\nname = "a"\ninstances_min = 3\ninstances_max = 2', "0 <= instances_min"),
        ('[[autoscaler.models]]\nname = "a"\nlauncher = "command"', "command belongs to"),
        ('[[autoscaler.models]]\nname = "a"\nlauncher = "repository"\nservers = ["x"]', "unknown servers x"),
        ('[[autoscaler.models]]\nname = "a"\n[[autoscaler.models]]\nname = "a"', "model a is listed twice"),
        ('[[autoscaler.servers]]\nserver_id = "s"\ngrpc_address = "nowhere"', "must be host:port"),
        ('[[autoscaler.models]]\nname = "a"\nrole = "quick"', "role must be one of mixed, interactive, batch"),
        ('[[autoscaler.servers]]\nserver_id = "s"\ngrpc_address = "a:1"\nrole = "x"', "server s: role must be one of"),
        ('instances_max = 1\n[[autoscaler.models]]\nname = "a"\ninstances_min = 2', "need 2"),
        (
            '[[autoscaler.models]]\nname = "a"\nprofile = "H/M/tp1"\n[[autoscaler.stocks]]\ngpu = "h"',
            "no pool has",
        ),
        ("dwell_s = nan", "dwell_s must be a number"),
        ("survivors_load_max = -1", "must not be negative"),
    ],
)
def test_a_value_that_cannot_work_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(f"[autoscaler]\n{text}")


def test_lists_of_tables_become_values() -> None:
    config = read('[[autoscaler.servers]]\nserver_id = "gpu-1"\ngrpc_address = "127.0.0.1:8001"')
    assert config.servers == (ServerConfig(server_id="gpu-1", grpc_address="127.0.0.1:8001"),)
    assert read('[[autoscaler.models]]\nname = "a"').models == (ModelConfig(name="a"),)
