"""How long messages travel between regions."""

from forebay.core.errors import ConfigError
from forebay.core.units import US_PER_MS
from forebay.simulator.config import NetworkConfig


class Network:
    """A table of round-trip times, the same either way, in microseconds.

    A route between a region and itself overrides the local round trip there. Raises ConfigError for a route that does
    not name two regions or is given twice.
    """

    def __init__(self, config: NetworkConfig) -> None:
        self._local_us = _us(config.local_ms)
        self._remote_us = _us(config.remote_ms)
        self._routes_us: dict[tuple[str, str], int] = {}
        for route in config.routes:
            if len(route.regions) != 2:
                raise ConfigError(f"[network] a route needs two regions, not {', '.join(route.regions) or 'none'}")
            here, there = route.regions
            if (here, there) in self._routes_us:
                raise ConfigError(f"[network] the route between {here} and {there} is given twice; keep one")
            self._routes_us[here, there] = self._routes_us[there, here] = _us(route.round_trip_ms)

    def round_trip_us(self, here: str, there: str) -> int:
        """There and back."""
        found = self._routes_us.get((here, there))
        if found is not None:
            return found
        return self._local_us if here == there else self._remote_us

    def there_us(self, here: str, there: str) -> int:
        """One way: half a round trip, the odd microsecond on the way there."""
        return -(-self.round_trip_us(here, there) // 2)

    def back_us(self, here: str, there: str) -> int:
        """The other way: what is left of the round trip."""
        return self.round_trip_us(here, there) // 2


def _us(milliseconds: float) -> int:
    return round(milliseconds * US_PER_MS)
