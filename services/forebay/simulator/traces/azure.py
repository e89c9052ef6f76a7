"""Reads the Azure LLM inference traces of 2023 and 2024."""

from dataclasses import dataclass
from pathlib import Path

from forebay.simulator.traces.drafts import Draft, RowOptions
from forebay.simulator.traces.fields import Kind
from forebay.simulator.traces.table import read_table
from forebay.simulator.workload.base import Workload

COLUMNS = {"TIMESTAMP": Kind.TIME, "ContextTokens": Kind.COUNT, "GeneratedTokens": Kind.COUNT}


@dataclass(frozen=True, slots=True)
class Azure(RowOptions):
    """CSV with TIMESTAMP, ContextTokens, GeneratedTokens (Azure/AzurePublicDataset; Splitwise, ISCA'24; DynamoLLM).

    Both forms of time are read, 2023's without a zone and 2024's with one. All requests go to one `model`.
    """

    model: str = "model"

    def read(self, path: Path) -> Workload:
        """The trace; raises ConfigError naming the line of a bad row."""
        table = read_table(path, COLUMNS)
        draft = Draft(
            path,
            table["TIMESTAMP"],
            table["ContextTokens"],
            table["GeneratedTokens"],
            names={"models": (self.model,)},
        )
        return draft.workload(self)
