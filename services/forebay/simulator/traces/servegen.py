"""Draws request streams from ServeGen's description of production services, client by client."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forebay.core.errors import ConfigError
from forebay.core.units import US_PER_S
from forebay.simulator.traces.parquet import read_columns
from forebay.simulator.traces.sketches import WINDOW_S, Floats, Sketches, read_sketches
from forebay.simulator.workload.base import Bools, Ints, Workload, make_workload
from forebay.simulator.workload.combine import merge
from forebay.simulator.workload.streams import stream

RATE_WINDOW_S = 600
GAPS = ("Gamma", "Weibull")
RATES_NAME = re.compile(r"servegen_(.+?)_rates.*\.parquet")


@dataclass(frozen=True, slots=True)
class ServeGen:
    """Parquet files of rates and length sketches by client (alibaba/ServeGen): a file of rates, or a folder of several.

    Each client sends in each window of 600 s exactly as many requests as were counted, times `scale` (at random to a
    whole number); their gaps are drawn from the window's distribution and rescaled to fill it. Lengths come from the
    client's sketch nearest in time, prompt and answer independently, since that is all the source tells.

    `services`: those of the folder to take (none: all), a model each. `start_s`, `end_s` (0: to the end): the span,
    counted from the source's start. `scale` thins evenly; `client_count` takes so many clients at random instead (0:
    all). `unknown_lengths`: clients without sketches draw from the sketches of the others, by traffic ("pool"), or are
    left out ("drop"). `holes`: windows in which nobody sent anything are kept, or filled from the window before
    ("fill"). More than `rows_max` expected requests are refused. A client is a tenant.
    """

    services: tuple[str, ...] = ()
    start_s: float = 0.0
    end_s: float = 86_400.0
    scale: float = 1.0
    client_count: int = 0
    unknown_lengths: str = "pool"
    holes: str = "keep"
    rows_max: int = 20_000_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.start_s >= 0 and (self.end_s == 0 or self.start_s < self.end_s)):
            raise ValueError("start_s must not be negative, and end_s must be above it (or 0: to the end)")
        if not (0 < self.scale <= 1_000 and self.client_count >= 0 and self.seed >= 0):
            raise ValueError("scale must be above 0, client_count and seed must not be negative")
        if self.unknown_lengths not in ("pool", "drop") or self.holes not in ("keep", "fill"):
            raise ValueError('unknown_lengths must be "pool" or "drop", and holes "keep" or "fill"')

    def read(self, path: Path) -> Workload:
        """The stream; arrivals count from `start_s`. Raises ConfigError naming what is wrong with which file."""
        return merge([self._service(name, rates) for name, rates in self._files(path).items()])

    def _files(self, path: Path) -> dict[str, Path]:
        paths = sorted(path.glob("servegen_*_rates*.parquet")) if path.is_dir() else [path]
        found = {match[1]: one for one in paths if (match := RATES_NAME.fullmatch(one.name))}
        unknown = sorted(set(self.services) - set(found))
        if unknown or not found:
            raise ConfigError(
                f"{path}: no rates of {', '.join(unknown) or 'any service'}; files must be named "
                f"servegen_SERVICE_rates….parquet (found: {', '.join(found) or 'none'})"
            )
        return {name: one for name, one in found.items() if name in (self.services or found)}

    def _service(self, name: str, path: Path) -> Workload:
        lengths = sorted(path.parent.glob(f"servegen_{name}_lengths*.parquet"))
        if not lengths:
            raise ConfigError(f"{path}: its file of lengths, servegen_{name}_lengths….parquet, is not beside it")
        sketches = read_sketches(lengths[0])
        rates = self._chosen(read_rates(path), sketches)
        span = rates.span(self.start_s, self.end_s)
        expected = rates.counts[span].sum() * self.scale
        if not 0 < expected <= self.rows_max:
            advice = "take another span" if expected == 0 else "lower scale or end_s, or raise rows_max"
            raise ConfigError(f"{path}: about {expected:,.0f} requests of at most {self.rows_max:,}; {advice}")
        return self._drawn(name, path, rates, span, sketches)

    def _chosen(self, rates: "Rates", sketches: Sketches) -> "Rates":
        kept = np.ones(len(rates.client), dtype=bool)
        if self.unknown_lengths == "drop":
            kept = np.isin(rates.client, sketches.client)
        if self.client_count:
            places = np.flatnonzero(kept)
            drawn = stream(self.seed, "clients").permutation(len(places))[: self.client_count]
            kept = np.isin(np.arange(len(rates.client)), places[drawn])
        chosen = rates.of(kept)
        return chosen.filled() if self.holes == "fill" else chosen

    def _drawn(self, name: str, path: Path, rates: "Rates", span: slice, sketches: Sketches) -> Workload:
        parts = list(self._windows(name, rates, span, sketches))
        arrivals, clients, prompts, outputs = (np.concatenate(column) for column in zip(*parts, strict=True))
        low, high = self.start_s * US_PER_S, (self.end_s or np.inf) * US_PER_S
        inside = (arrivals >= low) & (arrivals < high)
        if not inside.any():
            raise ConfigError(f"{path}: no request in the span; take a longer one, or raise scale")
        known = np.isin(rates.client[clients[inside]], sketches.client)
        return make_workload(
            arrivals[inside] - round(low),
            prompts[inside],
            outputs[inside],
            tenant=clients[inside],
            names={"models": (name,), "tenants": tuple(f"{name}-{client}" for client in rates.client)},
            notes=self._notes(name, 1 - float(known.mean())),
        )

    def _windows(
        self, name: str, rates: "Rates", span: slice, sketches: Sketches
    ) -> Iterator[tuple[Ints, Ints, Ints, Ints]]:
        own: dict[int, Ints] = {}
        for window in range(span.start, span.stop):
            at = window * RATE_WINDOW_S // WINDOW_S
            if at not in own:
                own = {at: sketches.of(rates.client, at)}
            rng = stream(self.seed, f"{name} window {window}")
            counts = np.floor(rates.counts[window] * self.scale + rng.random(len(rates.client))).astype(np.int64)
            at_s = _offsets(counts, rates.shapes[window], rates.is_weibull[window], rng)
            clients = np.repeat(np.arange(len(rates.client)), counts)
            order = np.argsort(at_s, kind="stable")
            at_s, clients = at_s[order], clients[order]
            rows = _sketch_rows(clients, own[at], rates.counts[window], len(sketches.client), rng)
            arrivals = ((window * RATE_WINDOW_S + at_s) * US_PER_S).astype(np.int64)
            yield arrivals, clients, sketches.sides[0].draw(rows, rng), sketches.sides[1].draw(rows, rng)

    def _notes(self, name: str, unknown: float) -> tuple[str, ...]:
        notes = [
            f"ServeGen {name}: drawn from counts by client and 600 s, scale {self.scale:g}, seed {self.seed}",
            f"ServeGen {name}: prompt and answer lengths drawn independently within client and 6 h",
        ]
        if self.client_count:
            notes.append(f"ServeGen {name}: {self.client_count} clients drawn at random")
        if unknown:
            notes.append(f"ServeGen {name}: {unknown:.0%} of requests are of clients without lengths and borrow them")
        return tuple(notes)


@dataclass(frozen=True, slots=True)
class Rates:
    """Counts of requests, shapes of gaps and whether those are Weibull's: a row a window, a column a client."""

    client: Ints
    counts: Floats
    shapes: Floats
    is_weibull: Bools

    def of(self, kept: Bools) -> "Rates":
        """Only these clients."""
        return Rates(self.client[kept], self.counts[:, kept], self.shapes[:, kept], self.is_weibull[:, kept])

    def filled(self) -> "Rates":
        """Windows in which nobody sent anything take what came before; those at the start stay."""
        busy = np.where(self.counts.any(axis=1), np.arange(len(self.counts)), 0)
        source = np.maximum.accumulate(busy)
        return Rates(self.client, self.counts[source], self.shapes[source], self.is_weibull[source])

    def span(self, start_s: float, end_s: float) -> slice:
        """The windows that touch the span; an end of 0 is that of the source."""
        end = len(self.counts) if end_s == 0 else min(int(np.ceil(end_s / RATE_WINDOW_S)), len(self.counts))
        return slice(min(int(start_s // RATE_WINDOW_S), end), end)


def read_rates(path: Path) -> Rates:
    """The rates of a ServeGen file, checked."""
    table = read_columns(path, ["client", "t", "rate", "dist", "p1"])
    client, t, rate, shape = (table.column(name).to_numpy() for name in ("client", "t", "rate", "p1"))
    dist = np.array(table.column("dist").to_pylist(), dtype=object)
    _need(path, (t >= 0) & (t % RATE_WINDOW_S == 0), f"t must be a multiple of {RATE_WINDOW_S} s")
    _need(path, np.isfinite(rate) & (rate >= 0), "rate must be a number that is not negative")
    _need(path, (rate == 0) | (np.isin(dist, GAPS) & (shape > 0)), f"dist must be {' or '.join(GAPS)}, and p1 above 0")
    names, column = np.unique(client.astype(np.int64), return_inverse=True)
    row = t.astype(np.int64) // RATE_WINDOW_S
    size = (int(row.max(initial=-1)) + 1, len(names))
    _need(
        path,
        np.bincount(row * max(size[1], 1) + column)[row * size[1] + column] == 1,
        "a client has two rows for one t",
    )
    counts, shapes, is_weibull = np.zeros(size), np.ones(size), np.zeros(size, dtype=bool)
    counts[row, column] = rate * RATE_WINDOW_S
    shapes[row, column] = np.where(rate > 0, shape, 1.0)
    is_weibull[row, column] = dist == "Weibull"
    return Rates(names, np.where(np.abs(counts - np.rint(counts)) < 1e-6, np.rint(counts), counts), shapes, is_weibull)


def _need(path: Path, holds: Bools, complaint: str) -> None:
    if not holds.all():
        raise ConfigError(f"{path}: row {int(np.argmin(holds))}: {complaint}")


def _offsets(counts: Ints, shapes: Floats, is_weibull: Bools, rng: np.random.Generator) -> Floats:
    """Times within the window, client by client: gaps of the shape, one more than there are requests, that fill it."""
    gap_counts = np.where(counts > 0, counts + 1, 0)
    owner = np.repeat(np.arange(len(counts)), gap_counts)
    shape, weibull = shapes[owner], is_weibull[owner]
    gaps = np.empty(len(owner))
    gaps[~weibull] = rng.standard_gamma(shape[~weibull])
    gaps[weibull] = rng.weibull(shape[weibull])
    totals = np.bincount(owner, gaps, minlength=len(counts))
    gaps = np.where(totals[owner] > 0, gaps, 1.0)
    shares = gaps / np.bincount(owner, gaps, minlength=len(counts))[owner]
    ends = np.cumsum(gap_counts)
    passed = np.cumsum(shares)
    before = np.concatenate([[0.0], passed])[(ends - gap_counts)[owner]]
    is_last = np.zeros(len(owner), dtype=bool)
    is_last[ends[counts > 0] - 1] = True
    offsets: Floats = np.clip((passed - before)[~is_last], 0, 1 - 1e-9) * RATE_WINDOW_S
    return offsets


def _sketch_rows(clients: Ints, own: Ints, counts: Floats, sketch_count: int, rng: np.random.Generator) -> Ints:
    """The sketch of each request's client; for clients without, one of the others', drawn by their traffic now."""
    rows: Ints = own[clients]
    lost = rows < 0
    if lost.any():
        weights = np.where(own >= 0, counts, 0.0)
        count = int(lost.sum())
        if weights.any():
            rows[lost] = own[rng.choice(len(own), size=count, p=weights / weights.sum())]
        else:
            rows[lost] = rng.integers(sketch_count, size=count)
    return rows
