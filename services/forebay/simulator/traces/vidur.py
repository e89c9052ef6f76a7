"""Reads request traces in the format of Vidur."""

from dataclasses import dataclass
from pathlib import Path

from forebay.simulator.traces.drafts import Draft, RowOptions
from forebay.simulator.traces.fields import Kind
from forebay.simulator.traces.table import read_table
from forebay.simulator.workload.base import Workload

COLUMNS = {"arrived_at": Kind.SECONDS, "num_prefill_tokens": Kind.COUNT, "num_decode_tokens": Kind.COUNT}


@dataclass(frozen=True, slots=True)
class Vidur(RowOptions):
    """CSV with arrived_at (s), num_prefill_tokens, num_decode_tokens (microsoft/vidur). One `model` gets all."""

    model: str = "model"

    def read(self, path: Path) -> Workload:
        """The trace; raises ConfigError naming the line of a bad row."""
        table = read_table(path, COLUMNS)
        draft = Draft(
            path,
            table["arrived_at"],
            table["num_prefill_tokens"],
            table["num_decode_tokens"],
            names={"models": (self.model,)},
        )
        return draft.workload(self)
