"""Round trips between regions."""

import pytest

from forebay.core.errors import ConfigError
from forebay.simulator.config import NetworkConfig, Route
from forebay.simulator.shell.network import Network


def test_a_region_is_near_to_itself_and_far_from_others() -> None:
    network = Network(NetworkConfig(local_ms=1.0, remote_ms=80.0))
    assert network.round_trip_us("east", "east") == 1_000
    assert network.round_trip_us("east", "west") == 80_000


def test_a_route_holds_either_way_and_only_for_its_regions() -> None:
    network = Network(NetworkConfig(remote_ms=80.0, routes=(Route(("east", "west"), 30.0),)))
    assert network.round_trip_us("east", "west") == network.round_trip_us("west", "east") == 30_000
    assert network.round_trip_us("east", "north") == 80_000


def test_both_ways_together_are_the_round_trip_to_the_microsecond() -> None:
    network = Network(NetworkConfig(remote_ms=0.005))
    assert (network.there_us("a", "b"), network.back_us("a", "b")) == (3, 2)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (NetworkConfig(routes=(Route(("east",), 1.0),)), "two regions"),
        (NetworkConfig(routes=(Route(("a", "b"), 1.0), Route(("b", "a"), 2.0))), "given twice"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(config: NetworkConfig, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Network(config)
