"""What plots need of one run beyond its summary: arrivals, instances and cost over time, pairs of lengths."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.units import US_PER_S
from forebay.simulator import store
from forebay.simulator.config import World
from forebay.simulator.results import STATUSES
from forebay.simulator.summary import met
from forebay.simulator.usage import US_PER_HOUR, Stay, find_stays, price

Floats: TypeAlias = npt.NDArray[np.float64]
BUCKET_COUNT = 120
PAIR_COUNT_MAX = 20_000


@dataclass(frozen=True)
class RunData:
    """The files of one run; times come in units of `unit_s` seconds, minutes for short runs and hours for long."""

    folder: Path
    world: World
    end_s: float

    @property
    def unit_s(self) -> int:
        """How many seconds the plots' unit of time has."""
        return 60 if self.end_s < 3 * 3600 else 3600

    @cached_property
    def _stays(self) -> list[Stay]:
        return list(find_stays(store.read_changes(self.folder)))

    @cached_property
    def _columns(self) -> dict[str, Any]:
        return store.read_columns(self.folder, ("arrival_us", "status", "output_tokens", "predicted_p50"))

    def arrival_rates(self) -> tuple[Floats, Floats]:
        """Requests per second over time."""
        edges_us = np.linspace(0, self.end_s * US_PER_S, BUCKET_COUNT + 1)
        counts, _ = np.histogram(self._columns["arrival_us"], bins=edges_us)
        rates = counts / (self.end_s / BUCKET_COUNT)
        return edges_us / US_PER_S / self.unit_s, np.append(rates, rates[-1])

    def attainment(self) -> tuple[Floats, Floats]:
        """The share of the requests that arrived in each stretch of time which met their SLO; gaps have none."""
        rows, _ = store.read(self.folder)
        edges_us = np.linspace(0, self.end_s * US_PER_S, BUCKET_COUNT // 2 + 1)
        arrived, _ = np.histogram(rows.requests.arrival_us, bins=edges_us)
        kept, _ = np.histogram(rows.requests.arrival_us[met(rows.requests, self.world.slo)], bins=edges_us)
        shares = np.where(arrived > 0, kept / np.maximum(arrived, 1), np.nan)
        middles = (edges_us[1:] + edges_us[:-1]) / 2 / US_PER_S / self.unit_s
        return middles, shares

    def paid_instances(self) -> tuple[Floats, Floats]:
        """How many instances are paid for from which time on."""
        return self._level([(start, stop, 1.0) for _, start, stop in self._paid()])

    def cost(self) -> tuple[Floats, Floats]:
        """What the fleet has cost by which time."""
        spans = [
            (start, stop, price(self.world, stay) * stay.gpu_count / US_PER_HOUR) for stay, start, stop in self._paid()
        ]
        times, levels = self._level(spans)
        spent = np.append(0.0, np.cumsum(levels[:-1] * np.diff(times) * self.unit_s * US_PER_S))
        return times, spent

    def lengths(self) -> tuple[Floats, Floats]:
        """Predicted and actual answer lengths of finished requests that had a prediction, at most so many."""
        columns = self._columns
        chosen = (columns["status"] == STATUSES.index("finished")) & (columns["predicted_p50"] >= 0)
        rows = np.flatnonzero(chosen)
        rows = rows[:: max(1, len(rows) // PAIR_COUNT_MAX)]
        return columns["predicted_p50"][rows].astype(float), columns["output_tokens"][rows].astype(float)

    def _paid(self) -> list[tuple[Stay, int, int]]:
        end_us = round(self.end_s * US_PER_S)
        return [
            (stay, start, stop)
            for stay in self._stays
            for state, start, stop in stay.spans(end_us)
            if state != "SPOT" and stop > start
        ]

    def _level(self, spans: list[tuple[int, int, float]]) -> tuple[Floats, Floats]:
        end_us = round(self.end_s * US_PER_S)
        edges = sorted(
            [(start, size) for start, _, size in spans] + [(stop, -size) for _, stop, size in spans if stop < end_us]
        )
        times = np.array([0, *(at for at, _ in edges), end_us]) / US_PER_S / self.unit_s
        levels = np.cumsum([0.0, *(size for _, size in edges), 0.0])
        last = [index for index in range(len(times)) if index + 1 == len(times) or times[index + 1] > times[index]]
        return times[last], levels[last]
