"""The leases that the scheduler knows of, and when it must hear of each again."""

from collections import OrderedDict

from forebay.core.units import US_PER_S
from forebay.gateway.config import Config
from forebay.gateway.flights import Flight

NEVER_US = 2**62


class Leases:
    """What runs on leases that the scheduler knows, the one told of longest ago first."""

    def __init__(self, config: Config) -> None:
        self._interval_us = int(config.progress_interval_s * US_PER_S)
        self._rate_max = config.progress_rate_max
        self._told: OrderedDict[str, Flight] = OrderedDict()
        self._ttl_us_min = NEVER_US

    def opened(self, flight: Flight, now_us: int) -> None:
        """A request runs on a lease that the scheduler has just given."""
        self.tell(flight, now_us)
        assert flight.placement is not None
        self._ttl_us_min = min(self._ttl_us_min, flight.placement.lease_ttl_us or NEVER_US)

    def tell(self, flight: Flight, now_us: int) -> None:
        """The scheduler hears of the lease now."""
        self._told[flight.request.request_id] = flight
        self._told.move_to_end(flight.request.request_id)
        flight.told_us = now_us

    def drop(self, request_id: str) -> None:
        """The request does not run any more, if it did."""
        self._told.pop(request_id, None)

    def due(self, now_us: int) -> list[Flight]:
        """The leases to renew now: as often as asked for, as long as there are not too many, and before they expire."""
        interval_us = max(self._interval_us, int(len(self._told) / self._rate_max * US_PER_S))
        soonest_us = min(interval_us, self._ttl_us_min // 3)
        due: list[Flight] = []
        for flight in self._told.values():
            age_us = now_us - flight.told_us
            if age_us >= interval_us or (age_us >= soonest_us and age_us >= _third_us(flight)):
                due.append(flight)
            elif 0 <= age_us < soonest_us:
                # All that follow were told of later; a clock that was set back puts some into the future.
                break
        return due

    def quiet_until_us(self, now_us: int) -> int | None:
        """Before then nothing is due, whatever is opened meanwhile; None where no lease was ever seen."""
        if self._ttl_us_min == NEVER_US:
            return None
        oldest = next(iter(self._told.values()), None)
        return min(self._interval_us, self._ttl_us_min // 3) + (now_us if oldest is None else oldest.told_us)


def _third_us(flight: Flight) -> int:
    """A third of the lease, so that one lost message does not end it."""
    assert flight.placement is not None
    return flight.placement.lease_ttl_us // 3 or NEVER_US
