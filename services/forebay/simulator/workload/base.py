"""The columns of a workload: one row a request, sorted by arrival."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.values import SloClass

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

PREDICTED = ("predicted_p10", "predicted_p50", "predicted_p90", "predicted_p97")
"""What a predictor said of each answer beforehand, at `QUANTILE_LEVELS`."""

PLAIN: Mapping[str, int] = {
    "output_tokens_max": 0,
    "model": 0,
    "slo_class": int(SloClass.INTERACTIVE_NORMAL),
    "tenant": 0,
    "region": 0,
    "application": 0,
    "deadline_us": 0,
    "program": -1,
    "think_us": 0,
    "text": -1,
    **dict.fromkeys(PREDICTED, -1),
}
"""The columns that may be left out, with their plainest value."""

COLUMNS = ("arrival_us", "prompt_tokens", "output_tokens", *PLAIN)
"""All columns of one number a row."""

NAMES: Mapping[str, str] = {
    "model": "models",
    "tenant": "tenants",
    "region": "regions",
    "application": "applications",
    "text": "texts",
}
"""Columns that index a table, and that table."""


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """Rows of unequal length: row i is `values[start[i]:start[i + 1]]`."""

    start: Ints
    values: Ints

    def counts(self) -> Ints:
        """The length of each row."""
        return np.diff(self.start)

    def take(self, rows: Ints) -> "Ragged":
        """The rows in the given order."""
        counts = self.counts()[rows]
        start = _starts(counts)
        shift = np.repeat(self.start[:-1][rows] - start[:-1], counts)
        return Ragged(start, self.values[np.arange(start[-1]) + shift])

    def cut(self, counts: Ints) -> "Ragged":
        """The first `counts[i]` values of each row, or all where there are fewer."""
        kept = np.minimum(counts, self.counts())
        place = np.arange(len(self.values)) - np.repeat(self.start[:-1], self.counts())
        return Ragged(_starts(kept), self.values[place < np.repeat(kept, self.counts())])


def ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    """The rows in one array."""
    counts = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    return Ragged(_starts(counts), np.array([value for row in rows for value in row], dtype=np.int64))


def _starts(counts: Ints) -> Ints:
    start = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=start[1:])
    return start


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """Requests in columns of equal length; all arrays are int64 and read-only.

    `arrival_us` counts from the start of the run and never decreases. `output_tokens` is the hidden truth: only the
    instance (and an oracle) may read it. `output_tokens_max` is the client's limit (0: none). `model`, `tenant`,
    `region` and `application` index the tables of names. `slo_class` holds `SloClass` numbers. `deadline_us` counts
    from the arrival (0: none). `program` groups the calls of one session or agent program (-1: none).

    A row with parents does not arrive at `arrival_us` but `think_us` after the last of its parents has finished (a
    closed loop; a parent that fails takes its children along). The parents of row i are
    `parents[parent_start[i]:parent_start[i + 1]]`, rows with smaller numbers.

    The prompt of row i begins with the blocks `blocks[block_start[i]:block_start[i + 1]]` of `block_tokens` tokens
    each, the last of which may be partial: equal ids after equal ids mean equal text. `text` indexes `texts`, the
    prompts themselves where they are known (-1: unknown). The `predicted_*` are quantiles of the answer's length that a
    predictor gave beforehand (-1: nobody did). `notes` say what was drawn, dropped or changed on the way here: whoever
    shows results shows them too.
    """

    arrival_us: Ints
    prompt_tokens: Ints
    output_tokens: Ints
    output_tokens_max: Ints
    model: Ints
    slo_class: Ints
    tenant: Ints
    region: Ints
    application: Ints
    deadline_us: Ints
    program: Ints
    think_us: Ints
    parent_start: Ints
    parents: Ints
    block_start: Ints
    blocks: Ints
    text: Ints
    predicted_p10: Ints
    predicted_p50: Ints
    predicted_p90: Ints
    predicted_p97: Ints
    block_tokens: int = 512
    models: tuple[str, ...] = ("model",)
    tenants: tuple[str, ...] = ("default",)
    regions: tuple[str, ...] = ("local",)
    applications: tuple[str, ...] = ("",)
    texts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrival_us)

    @property
    def parents_of(self) -> Ragged:
        """The parents of all rows."""
        return Ragged(self.parent_start, self.parents)

    @property
    def blocks_of(self) -> Ragged:
        """The prefix blocks of all rows."""
        return Ragged(self.block_start, self.blocks)


def make_workload(
    arrival_us: npt.ArrayLike,
    prompt_tokens: npt.ArrayLike,
    output_tokens: npt.ArrayLike,
    *,
    names: Mapping[str, tuple[str, ...]] | None = None,
    block_tokens: int = 512,
    parents: Sequence[Sequence[int]] | Ragged | None = None,
    blocks: Sequence[Sequence[int]] | Ragged | None = None,
    texts: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    **columns: npt.ArrayLike,
) -> Workload:
    """A workload from its arrivals and lengths; columns that are not given get the plainest value.

    `names` holds the tables "models", "tenants", "regions" and "applications". Raises ValueError naming the first row
    that cannot be.
    """
    arrivals = _column(arrival_us)
    count = len(arrivals)
    _known(columns, PLAIN, "column")
    _known(names or {}, [table for table in NAMES.values() if table != "texts"], "table of names")
    filled: dict[str, Any] = {name: _column(columns.get(name, np.full(count, value))) for name, value in PLAIN.items()}
    filled.update(names or {})
    parent_rows, block_ids = _rows(parents, count), _rows(blocks, count)
    workload = Workload(
        arrivals,
        _column(prompt_tokens),
        _column(output_tokens),
        **filled,
        parent_start=_column(parent_rows.start),
        parents=_column(parent_rows.values),
        block_start=_column(block_ids.start),
        blocks=_column(block_ids.values),
        block_tokens=block_tokens,
        texts=texts,
        notes=notes,
    )
    check(workload)
    return workload


def change(workload: Workload, **changes: Any) -> Workload:
    """The workload with other columns or tables (and `parents_of`, `blocks_of` as a whole), checked like a new one."""
    for name, start, values in (("parents_of", "parent_start", "parents"), ("blocks_of", "block_start", "blocks")):
        if name in changes:
            rows = changes.pop(name)
            changes |= {start: rows.start, values: rows.values}
    arrays = {name: value for name, value in changes.items() if isinstance(getattr(workload, name), np.ndarray)}
    changed = replace(workload, **changes | {name: _column(value) for name, value in arrays.items()})
    check(changed)
    return changed


def take(workload: Workload, rows: Ints) -> Workload:
    """The given rows, each at most once, in the given order; their parents must be among them, and before them."""
    columns = {name: getattr(workload, name)[rows] for name in COLUMNS}
    return change(
        workload,
        **columns,
        parents_of=renumbered(workload.parents_of, rows),
        blocks_of=workload.blocks_of.take(rows),
    )


def renumbered(parents: Ragged, rows: Ints) -> Ragged:
    """The parents of the given rows, each at most once, by their places among them; -1 for one that is not."""
    place = np.full(len(parents.start) - 1, -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    taken = parents.take(rows)
    return Ragged(taken.start, place[taken.values])


def _known(given: Mapping[str, object], known: Mapping[str, object] | Sequence[str], what: str) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"a workload has no {what} {', '.join(unknown)}; known: {', '.join(known)}")


def _column(values: npt.ArrayLike) -> Ints:
    column = np.array(values, dtype=np.int64)
    column.flags.writeable = False
    return column


def _rows(rows: Sequence[Sequence[int]] | Ragged | None, count: int) -> Ragged:
    if isinstance(rows, Ragged):
        return rows
    if rows is None:
        return Ragged(np.zeros(count + 1, dtype=np.int64), np.zeros(0, dtype=np.int64))
    return ragged(rows)


def check(workload: Workload) -> None:
    """Raises ValueError naming the first row that breaks what `Workload` promises."""
    count = len(workload)
    for name in COLUMNS:
        if len(getattr(workload, name)) != count:
            raise ValueError(f"column {name} has {len(getattr(workload, name))} rows, but there are {count} arrivals")
    _need(workload.prompt_tokens >= 1, "prompt_tokens must be at least 1")
    _need(workload.output_tokens >= 1, "output_tokens must be at least 1")
    _need(np.diff(workload.arrival_us, prepend=0) >= 0, "arrival_us must not be negative or decrease")
    for name in ("output_tokens_max", "deadline_us", "think_us"):
        _need(getattr(workload, name) >= 0, f"{name} must not be negative")
    _need(np.isin(workload.slo_class, [int(one) for one in SloClass]), "slo_class must be a number of SloClass")
    _check_predicted(workload)
    _check_names(workload)
    _check_ragged(workload)


def _check_predicted(workload: Workload) -> None:
    quantiles = np.stack([getattr(workload, name) for name in PREDICTED])
    known = (quantiles[0] >= 1) & (np.diff(quantiles, axis=0) >= 0).all(axis=0)
    _need(
        known | (quantiles == -1).all(axis=0), "predicted quantiles must not decrease and be at least 1, or all be -1"
    )


def _check_names(workload: Workload) -> None:
    for name, table in NAMES.items():
        column, low = getattr(workload, name), -1 if name == "text" else 0
        _need((column >= low) & (column < len(getattr(workload, table))), f"{name} is no index into {table}")
    _need(workload.program >= -1, "program must be -1 or more")


def _check_ragged(workload: Workload) -> None:
    parents, blocks = workload.parents_of, workload.blocks_of
    for name, rows in (("parents", parents), ("blocks", blocks)):
        if len(rows.start) != len(workload) + 1 or rows.start[0] != 0 or rows.start[-1] != len(rows.values):
            raise ValueError(f"{name}: there must be one row of them for each arrival")
        _need(rows.counts() >= 0, f"{name}: their starts must not decrease")
    child = np.repeat(np.arange(len(workload)), parents.counts())
    good = (parents.values >= 0) & (parents.values < child)
    if not good.all():
        raise ValueError(f"row {int(child[np.argmin(good)])}: parents must be rows before their child")
    if workload.block_tokens < 1:
        raise ValueError("block_tokens must be at least 1")
    _need((blocks.counts() - 1) * workload.block_tokens < workload.prompt_tokens, "more blocks than its prompt fills")


def _need(holds: Bools, complaint: str) -> None:
    if not holds.all():
        raise ValueError(f"row {int(np.argmin(holds))}: {complaint}")
