"""What changed between two states of the page: sections of rows by key, and how to send only the difference."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Rows: TypeAlias = Mapping[str, Any]
"""Rows of one section by key; a row is what JSON can hold."""
State: TypeAlias = Mapping[str, Rows]


def delta(before: State, after: State) -> dict[str, dict[str, Any]]:
    """By section: the rows that are new or different (`set`) and the keys that are there no more (`gone`)."""
    changes = {name: _changed(before.get(name, {}), rows) for name, rows in after.items()}
    changes |= {name: {"gone": list(rows)} for name, rows in before.items() if name not in after and rows}
    return {name: change for name, change in changes.items() if change}


def applied(state: State, change: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The state after a change; what the browser does as well (static/state.js)."""
    after = {name: dict(rows) for name, rows in state.items()}
    for name, one in change.items():
        rows = after.setdefault(name, {})
        for key in one.get("gone", ()):
            rows.pop(key, None)
        rows.update(one.get("set", {}))
    return after


def _changed(before: Rows, after: Rows) -> dict[str, Any]:
    fresh = {key: row for key, row in after.items() if key not in before or before[key] != row}
    gone = [key for key in before if key not in after]
    return ({"set": fresh} if fresh else {}) | ({"gone": gone} if gone else {})
