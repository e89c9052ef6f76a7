"""Configuration is strict: a typing mistake is an error that names the mend."""

from dataclasses import dataclass, field

import pytest

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Inner:
    name: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    hold_timeout_s: float = 30.0
    queue_count_max: int = 100
    policy: str = "fcfs"
    enabled: bool = True
    models: tuple[Inner, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.queue_count_max < 1:
            raise ValueError("queue_count_max must be at least 1")


def test_missing_keys_take_the_defaults() -> None:
    assert from_mapping(Config, {}, "scheduler") == Config()


def test_values_nested_tables_and_lists_are_taken() -> None:
    made = from_mapping(Config, {"policy": "ssjf", "models": [{"name": "a"}, {"name": "b"}]}, "scheduler")
    assert made == Config(policy="ssjf", models=(Inner("a"), Inner("b")))


def test_a_whole_number_is_a_float() -> None:
    assert from_mapping(Config, {"hold_timeout_s": 5}, "scheduler").hold_timeout_s == 5.0


def test_a_misspelt_key_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'polcy' in \[scheduler\]; did you mean 'policy'\?"):
        from_mapping(Config, {"polcy": "fcfs"}, "scheduler")


def test_a_misspelt_key_inside_a_list_is_found_too() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'nam' in \[scheduler.models\[0\]\]"):
        from_mapping(Config, {"models": [{"nam": "a"}]}, "scheduler")


@pytest.mark.parametrize("bad", [{"queue_count_max": "many"}, {"enabled": 1}, {"queue_count_max": True}, {"policy": 3}])
def test_a_wrong_type_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        from_mapping(Config, bad, "scheduler")


def test_a_value_that_the_class_refuses_names_the_section() -> None:
    with pytest.raises(ConfigError, match=r"\[scheduler\]: queue_count_max must be at least 1"):
        from_mapping(Config, {"queue_count_max": 0}, "scheduler")


@pytest.mark.parametrize(
    ("bad", "path"),
    [
        ({"models": [{"name": "a"}, {"nam": "b"}]}, "scheduler.models[1].nam"),
        ({"policy": 3}, "scheduler.policy"),
        ({"queue_count_max": 0}, "scheduler"),
    ],
)
def test_an_error_carries_the_path_of_what_is_wrong(bad: dict[str, object], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Config, bad, "scheduler")
    assert list(caught.value.violations) == [path]
