"""The columns of a workload: one row a request, sorted by arrival."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from forebay.core.values import SloClass

Ints: TypeAlias = npt.NDArray[np.int64]


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
    prompts themselves where they are known (-1: unknown).
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
    block_tokens: int = 512
    models: tuple[str, ...] = ("model",)
    tenants: tuple[str, ...] = ("default",)
    regions: tuple[str, ...] = ("local",)
    applications: tuple[str, ...] = ("",)
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrival_us)


def make_workload(
    arrival_us: npt.ArrayLike,
    prompt_tokens: npt.ArrayLike,
    output_tokens: npt.ArrayLike,
    *,
    names: dict[str, tuple[str, ...]] | None = None,
    block_tokens: int = 512,
    parents: Sequence[Sequence[int]] | None = None,
    blocks: Sequence[Sequence[int]] | None = None,
    texts: tuple[str, ...] = (),
    **columns: npt.ArrayLike,
) -> Workload:
    """A workload from its arrivals and lengths; columns that are not given get the plainest value.

    Raises ValueError naming the first row that cannot be.
    """
    arrivals = _column(arrival_us)
    count = len(arrivals)
    plain: dict[str, int] = {
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
    }
    unknown = sorted(set(columns) - set(plain))
    if unknown:
        raise ValueError(f"a workload has no column {', '.join(unknown)}; known: {', '.join(plain)}")
    filled: dict[str, Any] = {name: _column(columns.get(name, np.full(count, value))) for name, value in plain.items()}
    filled.update(names or {})
    parent_start, parent_rows = _ragged(parents or [()] * count)
    block_start, block_ids = _ragged(blocks or [()] * count)
    workload = Workload(
        arrivals,
        _column(prompt_tokens),
        _column(output_tokens),
        **filled,
        parent_start=parent_start,
        parents=parent_rows,
        block_start=block_start,
        blocks=block_ids,
        block_tokens=block_tokens,
        texts=texts,
    )
    _check(workload)
    return workload


def _column(values: npt.ArrayLike) -> Ints:
    column = np.array(values, dtype=np.int64)
    column.flags.writeable = False
    return column


def _ragged(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    start = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=start[1:])
    return _column(start), _column([value for row in rows for value in row])


def _check(workload: Workload) -> None:
    count = len(workload)
    for name in ("prompt_tokens", "output_tokens", "model", "slo_class", "tenant", "region", "program", "text"):
        if len(getattr(workload, name)) != count:
            raise ValueError(f"column {name} has {len(getattr(workload, name))} rows, but there are {count} arrivals")
    _need(workload.prompt_tokens >= 1, "prompt_tokens must be at least 1")
    _need(workload.output_tokens >= 1, "output_tokens must be at least 1")
    _need(workload.arrival_us >= 0, "arrival_us must not be negative")
    _need(np.diff(workload.arrival_us, prepend=0) >= 0, "arrival_us must not decrease")
    rows = np.repeat(np.arange(count), np.diff(workload.parent_start))
    _need((workload.parents < rows) & (workload.parents >= 0), "parents must be rows before their child")


def _need(holds: npt.NDArray[np.bool_], complaint: str) -> None:
    if not holds.all():
        raise ValueError(f"row {int(np.argmin(holds))}: {complaint}")
