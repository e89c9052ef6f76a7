import pytest

from forebay.core.errors import ConfigError
from forebay.gateway.config import Config


def test_the_defaults_are_allowed() -> None:
    Config()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slo_class_default", "fast"),
        ("body_bytes_max", 0),
        ("prompt_head_bytes", 8193),
        ("prompt_head_bytes", -1),
        ("first_token_timeout_s", 0.0),
        ("attempts_max", 0),
        ("suspect_s", -1.0),
        ("requests_max", -5),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        Config(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["prompt_head_bytes", "suspect_s", "grace_s"])
def test_some_values_may_be_zero(name: str) -> None:
    Config(**{name: 0})  # type: ignore[arg-type]
