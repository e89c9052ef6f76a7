"""Workloads put together, and rows put in the order of their arrivals."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from forebay.simulator.workload.base import COLUMNS, NAMES, Ints, Ragged, Workload, make_workload, renumbered


def merge(workloads: Sequence[Workload]) -> Workload:
    """All requests in order of arrival; names that are equal stay one, programs and prefix blocks stay apart.

    At one instant the rows of the first workload come first. Raises ValueError where block sizes differ.
    """
    if not workloads:
        raise ValueError("there must be at least one workload to merge")
    if len(workloads) == 1:
        return workloads[0]
    sizes = {one.block_tokens for one in workloads if len(one.blocks)} or {workloads[0].block_tokens}
    if len(sizes) > 1:
        raise ValueError(f"blocks must be of one size, not {', '.join(map(str, sorted(sizes)))} tokens")
    tables = {table: _names(workloads, table) for table in NAMES.values()}
    columns = {name: np.concatenate(parts) for name, parts in _columns(workloads, tables).items()}
    order = np.argsort(columns["arrival_us"], kind="stable")
    return _ordered(
        columns,
        order,
        parents=_stacked([one.parents_of for one in workloads], [len(one) for one in workloads]),
        blocks=_stacked([one.blocks_of for one in workloads], [_end(one.blocks) for one in workloads]),
        block_tokens=sizes.pop(),
        tables=tables,
        notes=tuple(dict.fromkeys(note for one in workloads for note in one.notes)),
    )


def moved(workload: Workload, arrival_us: Ints) -> Workload:
    """The same requests at other times, which need not be in order; parents must not come after their children."""
    columns = {name: getattr(workload, name) for name in COLUMNS} | {"arrival_us": arrival_us}
    return _ordered(
        columns,
        np.argsort(arrival_us, kind="stable"),
        parents=workload.parents_of,
        blocks=workload.blocks_of,
        block_tokens=workload.block_tokens,
        tables={table: getattr(workload, table) for table in NAMES.values()},
        notes=workload.notes,
    )


def _ordered(
    columns: Mapping[str, Ints],
    order: Ints,
    parents: Ragged,
    blocks: Ragged,
    block_tokens: int,
    tables: Mapping[str, tuple[str, ...]],
    notes: tuple[str, ...],
) -> Workload:
    sorted_columns: dict[str, Any] = {name: column[order] for name, column in columns.items()}
    return make_workload(
        sorted_columns.pop("arrival_us"),
        sorted_columns.pop("prompt_tokens"),
        sorted_columns.pop("output_tokens"),
        names={table: names for table, names in tables.items() if table != "texts"},
        texts=tables["texts"],
        parents=renumbered(parents, order),
        blocks=blocks.take(order),
        block_tokens=block_tokens,
        notes=notes,
        **sorted_columns,
    )


def _names(workloads: Sequence[Workload], table: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for one in workloads for name in getattr(one, table)))


def _columns(workloads: Sequence[Workload], tables: Mapping[str, tuple[str, ...]]) -> dict[str, list[Ints]]:
    parts: dict[str, list[Ints]] = {name: [] for name in COLUMNS}
    program_count = 0
    for one in workloads:
        for name in COLUMNS:
            parts[name].append(_COLUMN.get(name, _plain)(one, name, tables, program_count))
        program_count += _end(one.program)
    return parts


def _plain(one: Workload, name: str, tables: Mapping[str, tuple[str, ...]], program_count: int) -> Ints:
    column: Ints = getattr(one, name)
    return column


def _named(one: Workload, name: str, tables: Mapping[str, tuple[str, ...]], program_count: int) -> Ints:
    places = {known: place for place, known in enumerate(tables[NAMES[name]])}
    own = np.array([places[known] for known in getattr(one, NAMES[name])] + [-1], dtype=np.int64)
    column: Ints = own[getattr(one, name)]
    return column


def _program(one: Workload, name: str, tables: Mapping[str, tuple[str, ...]], program_count: int) -> Ints:
    return np.where(one.program >= 0, one.program + program_count, -1)


_COLUMN: Mapping[str, Callable[[Workload, str, Mapping[str, tuple[str, ...]], int], Ints]] = {
    **dict.fromkeys(NAMES, _named),
    "program": _program,
}


def _stacked(rows: Sequence[Ragged], sizes: Sequence[int]) -> Ragged:
    """The rows one after the other, the values of each raised above those of the ones before."""
    counts = np.concatenate([one.counts() for one in rows])
    bases = np.cumsum([0, *sizes[:-1]])
    values = np.concatenate([one.values + base for one, base in zip(rows, bases, strict=True)])
    return Ragged(np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]), values)


def _end(values: Ints) -> int:
    return int(values.max(initial=-1)) + 1
