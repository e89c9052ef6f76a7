"""How long messages take between regions."""

from forebay.simulator.config import NetworkConfig

PS_PER_MS = 1_000_000_000


class Distances:
    """One-way times in picoseconds: half the round trips of the network."""

    def __init__(self, network: NetworkConfig) -> None:
        self._network = network
        self._round_trips_ms = {frozenset(route.regions): route.round_trip_ms for route in network.routes}
        self._known: dict[tuple[str, str], int] = {}

    def way_ps(self, region: str, other: str) -> int:
        """From one region to the other, or inside one."""
        key = (region, other)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = round(self._round_trip_ms(region, other) * PS_PER_MS / 2)
        return found

    def _round_trip_ms(self, region: str, other: str) -> float:
        plain_ms = self._network.local_ms if region == other else self._network.remote_ms
        return self._round_trips_ms.get(frozenset((region, other)), plain_ms)
