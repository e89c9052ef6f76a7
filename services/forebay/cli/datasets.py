"""Finds traffic for a demonstration: public traces and prompts where they are at hand, otherwise the samples."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from forebay.cli.loaders import SAMPLES, Arrival, Prompt, can_read_parquet, read_prompts, read_trace
from forebay.cli.stack_config import ROOT

TRACE = "open/traces/AzureLLMInferenceTrace_conv.csv.gz"
TRACE_START_S = 900.0
SAMPLE_START_S = 60.0
PROMPT_SETS = ("translation_gpt_mt", "gpteacher_gpt4", "bbh_cot_code-davinci-002")
"""Sets with answers of models; those whose answers are references by people stay out."""
PROMPTS_EACH = 400


@dataclass(frozen=True, slots=True)
class Traffic:
    """Arrivals and prompts with a sentence each that says where they come from and what they are not."""

    arrivals: Sequence[Arrival]
    start_s: float
    """Second of the trace from which on a minute is a fair piece of it: neither its ramp nor its peak."""
    prompts: Sequence[Prompt]
    notes: Sequence[str]

    def rate_per_s(self, span_s: float) -> float:
        """Mean rate of the piece that starts at `start_s` and is `span_s` long."""
        count = sum(self.start_s <= one.at_s < self.start_s + span_s for one in self.arrivals)
        return count / span_s


def data_dir() -> Path | None:
    """The folder with the public data (FOREBAY_DATA, or shared/data beside the repository); None where it is not."""
    named = os.environ.get("FOREBAY_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if (folder / "open").is_dir() else None


def find_traffic(seed: int = 1) -> Traffic:
    """Azure's conversation trace with measured prompts where both are at hand, otherwise the samples."""
    folder = data_dir()
    if folder is None or not can_read_parquet():
        why = "no public data is at hand" if folder is None else "pyarrow is not installed"
        return _samples(why)
    prompts = [
        prompt
        for name in PROMPT_SETS
        for prompt in _some(read_prompts(folder / "open" / "prompts" / f"{name}.prompts.parquet"), seed)
    ]
    notes = (
        "arrivals: Azure LLM inference trace, conversation, 2023 (Splitwise, ISCA'24; CC-BY-4.0)",
        f"prompts:  {len(prompts)} of gpt-MT, GPTeacher and BIG-Bench-Hard; answers are as long as measured there",
        "          none of them was used to train the length model that ships",
        "no public data set has production arrivals and text together: times and prompts are paired at random",
    )
    return Traffic(read_trace(folder / TRACE), TRACE_START_S, prompts, notes)


def _samples(why: str) -> Traffic:
    notes = (
        f"arrivals and prompts: the samples that ship, since {why}",
        "their times and answer lengths are drawn by a seeded rule, not measured",
    )
    prompts = read_prompts(SAMPLES / "prompts.jsonl")
    return Traffic(read_trace(SAMPLES / "trace.csv"), SAMPLE_START_S, prompts, notes)


def _some(prompts: Sequence[Prompt], seed: int) -> list[Prompt]:
    held_out = [prompt for prompt in prompts if is_held_out(prompt)]
    chosen = np.random.default_rng(seed).permutation(len(held_out))[:PROMPTS_EACH]
    return [held_out[int(index)] for index in sorted(chosen)]


def is_held_out(prompt: Prompt) -> bool:
    """Whether the length model that ships has never seen the prompt: its id, 12 digits of SHA-1, is a multiple of 5."""
    return int(prompt_sha1(prompt)[8:12], 16) % 5 == 0


def prompt_sha1(prompt: Prompt) -> str:
    """The SHA-1 of the prompt's text in hex."""
    return hashlib.sha1(prompt.text.encode(), usedforsecurity=False).hexdigest()


def write_answers(path: Path, prompts: Iterable[Prompt]) -> None:
    """Writes the known answer lengths for the emulators: one object a line, the prompt by its SHA-1."""
    with path.open("w") as lines:
        for prompt in prompts:
            if prompt.output_tokens is not None:
                entry = {"prompt_sha1": prompt_sha1(prompt), "output_tokens": prompt.output_tokens}
                lines.write(json.dumps(entry) + "\n")
