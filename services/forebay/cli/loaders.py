"""Reads traces and prompts for live load, with the simulator's readers: one reader a format, strict about every row."""

from dataclasses import dataclass
from pathlib import Path

from forebay.core.errors import ConfigError
from forebay.core.units import US_PER_S
from forebay.simulator.traces import guess, read
from forebay.simulator.traces.prompts import Prompt, read_prompts

__all__ = ["SAMPLES", "Arrival", "Prompt", "can_read_parquet", "read_prompts", "read_trace"]

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
DESCRIPTIONS = ("servegen",)
"""Formats that describe traffic and hold no requests; a day drawn from one may be millions."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a trace: seconds after the first, and its token counts."""

    at_s: float
    context_tokens: int
    generated_tokens: int


def read_trace(path: Path) -> list[Arrival]:
    """The arrivals of a trace in any format that `forebay.simulator.traces` can guess, plain or .gz.

    Raises ConfigError with the line number for a row that is not right, or that goes back in time.
    """
    name = guess(path)
    if name in DESCRIPTIONS:
        raise ConfigError(f"{path} describes traffic and holds no requests; give a trace, or a workload saved from it")
    workload = read(name, path)
    columns = (workload.arrival_us, workload.prompt_tokens, workload.output_tokens)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [Arrival(at_us / US_PER_S, prompt, output) for at_us, prompt, output in rows]


def can_read_parquet() -> bool:
    """Whether the Parquet reader is installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return False
    return True
