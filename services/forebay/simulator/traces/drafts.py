"""From the columns of a file to a workload: order of time, counts of zero, and notes of what was done."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from forebay.core.errors import ConfigError
from forebay.core.units import US_PER_S
from forebay.simulator.workload.base import Bools, Ints, Ragged, Workload, make_workload, renumbered
from forebay.simulator.workload.streams import stream

ZERO_OUTPUTS = ("one", "drop")


@dataclass(frozen=True, slots=True)
class RowOptions:
    """What to do with rows that are legal and awkward.

    `zero_output`: an answer of no tokens counts as "one" token (its prompt did run), or "drop" leaves its row out.
    `sort`: rows may stand in any order; otherwise time that goes back is an error. `tick_s`: the file's clock ticks so
    seldom; rows of one stamp are spread over the tick, evenly at random by `seed`, but not beyond the next stamp.
    """

    zero_output: str = "one"
    sort: bool = False
    tick_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.zero_output not in ZERO_OUTPUTS:
            raise ValueError(f"zero_output must be one of {', '.join(ZERO_OUTPUTS)}, not {self.zero_output!r}")
        if not (0 <= self.tick_s < 1e6 and self.seed >= 0):
            raise ValueError("tick_s and seed must not be negative")


@dataclass(frozen=True, slots=True)
class Draft:
    """A workload before it is one: a row of the file each, `arrival_us` from any start. `first_line` is that of row 0.

    `columns`, `names`, `parents` and `blocks` are those of `make_workload`; rows that are not `kept` are left out. With
    parents rows may stand in any order but for those that wait for none, and none may be left out.
    """

    path: Path
    arrival_us: Ints
    prompt_tokens: Ints
    output_tokens: Ints
    columns: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parents: Ragged | None = None
    blocks: Ragged | None = None
    block_tokens: int = 512
    notes: tuple[str, ...] = ()
    first_line: int = 2
    kept: Bools | None = None

    def workload(self, options: RowOptions) -> Workload:
        """The workload; its first arrival is at 0. Raises ConfigError with the line where time goes back."""
        rows = self._order(options.sort)
        if self.kept is not None:
            rows = rows[self.kept[rows]]
        zero = self.output_tokens[rows] == 0
        if options.zero_output == "drop":
            self._check_loose(bool(zero.any()))
            rows = rows[~zero]
        if not len(rows):
            raise ConfigError(f"{self.path} has no request left; give a trace with at least one that has an answer")
        if self.parents is not None:
            options = replace(options, tick_s=0.0)
        arrivals, prompts = _spread(self.arrival_us[rows], options), self.prompt_tokens[rows]
        return make_workload(
            arrivals - arrivals[0],
            np.maximum(prompts, 1),
            np.maximum(self.output_tokens[rows], 1),
            names=dict(self.names),
            parents=renumbered(self.parents, rows) if self.parents else None,
            blocks=self.blocks.take(rows) if self.blocks else None,
            block_tokens=self.block_tokens,
            notes=self.notes + _notes(self.path.name, zero, prompts == 0, options),
            **{name: column[rows] for name, column in self.columns.items()},
        )

    def _order(self, sort: bool) -> Ints:
        first = np.flatnonzero(self.parents.counts() == 0) if self.parents else np.arange(len(self.arrival_us))
        back = np.diff(self.arrival_us[first]) < 0
        if back.any() and not sort:
            line = int(first[np.argmax(back) + 1]) + self.first_line
            raise ConfigError(f"{self.path}:{line}: time goes back; sort the file by time, or set sort = true")
        return np.argsort(self.arrival_us, kind="stable")

    def _check_loose(self, some_go: bool) -> None:
        if some_go and self.parents is not None:
            raise ConfigError(f'{self.path}: rows that others may wait for cannot be left out; set zero_output = "one"')


def _spread(stamps: Ints, options: RowOptions) -> Ints:
    if not options.tick_s:
        return stamps
    tick_us = round(options.tick_s * US_PER_S)
    distinct, place = np.unique(stamps, return_inverse=True)
    widths = np.minimum(np.diff(distinct, append=distinct[-1] + tick_us), tick_us)
    offsets = stream(options.seed, "tick").random(len(stamps)) * widths[place]
    return np.sort(stamps + offsets.astype(np.int64))


def _notes(name: str, zero_output: Bools, zero_prompt: Bools, options: RowOptions) -> tuple[str, ...]:
    done = "left out" if options.zero_output == "drop" else "counted as one token"
    counts = (
        (int(zero_output.sum()), f"answers of no tokens {done}"),
        (int(zero_prompt.sum()), "prompts of no tokens counted as one token"),
    )
    spread = (f"{name}: arrivals spread within ticks of {options.tick_s:g} s, seed {options.seed}",)
    return tuple(f"{name}: {count} {what}" for count, what in counts if count) + (spread if options.tick_s else ())
