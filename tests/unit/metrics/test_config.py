"""The configuration refuses what cannot work."""

import pytest

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.metrics.config import Config


def test_the_defaults_are_valid_and_in_microseconds_where_engines_need_them() -> None:
    config = Config()
    assert config.queue_stale_after_us == 5_000_000
    assert config.retention_us == 30 * 86_400 * 1_000_000


@pytest.mark.parametrize("name", ["scrape_interval_s", "retention_days", "buffer_count_max", "unreachable_after_count"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_value_that_is_not_above_zero_is_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=name):
        from_mapping(Config, {name: value}, "metrics")
