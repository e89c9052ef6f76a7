import pytest

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.gateway.config import Config
from forebay.gateway.deferred.config import DeferredConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("requests_max", 0),
        ("poll_s", 0.0),
        ("claim_s", -1.0),
        ("margin", 1.0),
        ("completion_s_max", 1e6),
        ("window_min", 65),
        ("window_max", 0),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        DeferredConfig(**{name: value})  # type: ignore[arg-type]


def test_it_is_a_table_of_the_gateway_s_section() -> None:
    config = from_mapping(Config, {"deferred": {"enabled": False, "window_min": 0}}, "gateway")
    assert (config.deferred.enabled, config.deferred.window_min) == (False, 0)
    with pytest.raises(ConfigError, match="did you mean 'enabled'"):
        from_mapping(Config, {"deferred": {"enabld": True}}, "gateway")
    with pytest.raises(ConfigError, match=r"\[gateway.deferred\]: window_min is 70; it must be at most window_max, 64"):
        from_mapping(Config, {"deferred": {"window_min": 70}}, "gateway")
