"""Reads the BurstGPT traces: months of requests to two models."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forebay.simulator.traces.drafts import Draft, RowOptions
from forebay.simulator.traces.fields import Column, Kind
from forebay.simulator.traces.table import read_table
from forebay.simulator.workload.base import Ints, Workload

COLUMNS = {
    "Timestamp": Kind.SECONDS,
    "Model": Kind.NAME,
    "Request tokens": Kind.COUNT,
    "Response tokens": Kind.COUNT,
    "Total tokens": Kind.COUNT,
    "Log Type": Kind.TEXT,
}


@dataclass(frozen=True, slots=True)
class BurstGpt(RowOptions):
    """CSV with Timestamp (s), Model, Request tokens, Response tokens, Total tokens, Log Type (HPMLL/BurstGPT).

    A response of no tokens is a request that failed, says its page; by default those are left out. The log type becomes
    the application, and the Session ID of newer files groups rows into programs. Times are whole seconds: rows of one
    second are spread over it.
    """

    zero_output: str = "drop"
    tick_s: float = 1.0

    def read(self, path: Path) -> Workload:
        """The trace; raises ConfigError naming the line of a bad row."""
        table = read_table(path, COLUMNS, {"Session ID": Kind.TEXT})
        columns = {"model": table["Model"], "application": table["Log Type"]}
        if "Session ID" in table:
            columns["program"] = _programs(table.columns["Session ID"])
        draft = Draft(
            path,
            table["Timestamp"],
            table["Request tokens"],
            table["Response tokens"],
            columns=columns,
            names={"models": table.names("Model"), "applications": table.names("Log Type")},
        )
        return draft.workload(self)


def _programs(sessions: Column) -> Ints:
    """The session's number; -1 where the field is empty."""
    empty = [place for place, name in enumerate(sessions.names) if not name.strip()]
    return np.where(np.isin(sessions.values, empty), -1, sessions.values)
