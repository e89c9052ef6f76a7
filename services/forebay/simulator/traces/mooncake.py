"""Reads the Mooncake traces: arrivals, lengths and prefix blocks."""

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forebay.core.errors import ConfigError
from forebay.simulator.traces.drafts import Draft, RowOptions
from forebay.simulator.traces.links import Links
from forebay.simulator.traces.records import read_records
from forebay.simulator.workload.base import Ragged, Workload, ragged


@dataclass(frozen=True, slots=True)
class Mooncake(RowOptions):
    """JSON lines with timestamp (ms), input_length, output_length, hash_ids (kvcache-ai/Mooncake, FAST'25).

    The clock of the published traces ticks every 3 s, over which rows are spread. `block_tokens` is the text of one id.

    Rows may wait for others, as in NVIDIA Dynamo's replay: see `Links` for session_id, request_id, wait_for, delay and
    tool_wait_ms. Each row's prompt is whole, what was said before included. Stamps of a file with such rows are exact.
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
        links, blocks = Links(), array("q")
        prompts, outputs, counts = [], [], [0]
        for record in read_records(path):
            links.add(record)
            prompts.append(record.count("input_length"))
            outputs.append(record.count("output_length"))
            ids = record.integers("hash_ids")
            if (len(ids) - 1) * self.block_tokens >= max(prompts[-1], 1):
                raise record.wrong("hash_ids", f"at most one id for each {self.block_tokens} tokens of input_length")
            blocks.extend(ids)
            counts.append(len(ids))
        if not prompts:
            raise ConfigError(f"{path} has no rows; give a trace with at least one request")
        draft = Draft(
            path,
            np.array(links.arrival_us, dtype=np.int64),
            np.array(prompts, dtype=np.int64),
            np.array(outputs, dtype=np.int64),
            columns={"program": np.array(links.program), "think_us": np.array(links.think_us)},
            names={"models": (self.model,)},
            parents=None if links.is_open else ragged(links.parents),
            blocks=Ragged(np.cumsum(counts), np.frombuffer(blocks, dtype=np.int64)),
            block_tokens=self.block_tokens,
            first_line=1,
        )
        return draft.workload(self)
