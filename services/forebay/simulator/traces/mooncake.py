"""Reads the Mooncake traces: arrivals, lengths and prefix blocks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forebay.core.errors import ConfigError
from forebay.core.units import US_PER_MS
from forebay.simulator.traces.drafts import Draft, RowOptions
from forebay.simulator.traces.records import read_records
from forebay.simulator.workload.base import Workload, ragged


@dataclass(frozen=True, slots=True)
class Mooncake(RowOptions):
    """JSON lines with timestamp (ms), input_length, output_length, hash_ids (kvcache-ai/Mooncake, FAST'25).

    The clock of the published traces ticks every 3 s, over which rows are spread. `block_tokens` is the text of one id.
    """

    model: str = "model"
    tick_s: float = 3.0
    block_tokens: int = 512

    def __post_init__(self) -> None:
        RowOptions.__post_init__(self)
        if self.block_tokens < 1:
            raise ValueError("block_tokens must be at least 1")

    def read(self, path: Path) -> Workload:
        """The trace; raises ConfigError naming the line of a bad row."""
        stamps, prompts, outputs, blocks = [], [], [], []
        for record in read_records(path):
            stamps.append(round(record.number("timestamp") * US_PER_MS))
            prompts.append(record.count("input_length"))
            outputs.append(record.count("output_length"))
            ids = record.integers("hash_ids")
            if (len(ids) - 1) * self.block_tokens >= max(prompts[-1], 1):
                raise record.wrong("hash_ids", f"at most one id for each {self.block_tokens} tokens of input_length")
            blocks.append(ids)
        if not stamps:
            raise ConfigError(f"{path} has no rows; give a trace with at least one request")
        draft = Draft(
            path,
            np.array(stamps, dtype=np.int64),
            np.array(prompts, dtype=np.int64),
            np.array(outputs, dtype=np.int64),
            names={"models": (self.model,)},
            blocks=ragged(blocks),
            block_tokens=self.block_tokens,
            first_line=1,
        )
        return draft.workload(self)
