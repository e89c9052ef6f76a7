"""Makes the samples that ship: `python -m forebay.samples.generate [FOLDER]` writes the same bytes every time.

`prompts.jsonl`: 200 prompts of eight applications. Their `output_tokens` are drawn, not measured, by a rule with two
families. Answers of a transducer follow its prompt: tokens = a · prompt tokens + b, times a log-normal factor with a
sigma of 0.15. Answers of an open task do not: log-normal with the application's median and sigma. `RULES` has both.

`trace.csv`: four minutes of arrivals in the format of the Azure LLM inference traces (TIMESTAMP, ContextTokens,
GeneratedTokens). The rate swings once between 1 and 4 requests a second and doubles for 20 s in the middle; gaps are
gamma-distributed with a coefficient of variation of 1.1; token counts are log-normal.
"""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from forebay.core.tokens import estimate_tokens

SEED = 7_080
PROMPTS_PER_APPLICATION = 25
OUTPUT_TOKENS_MAX = 1_000
TRACE_SPAN_S = 240.0
GAP_VARIATION = 1.1


@dataclass(frozen=True, slots=True)
class Transducer:
    """The answer follows the prompt: slope · prompt tokens + offset, with a log-normal factor."""

    slope: float
    offset: float
    sigma: float = 0.15

    def draw(self, prompt_tokens: int, rng: np.random.Generator) -> int:
        """Output tokens for a prompt of that length."""
        return round((self.slope * prompt_tokens + self.offset) * rng.lognormal(0.0, self.sigma))


@dataclass(frozen=True, slots=True)
class OpenTask:
    """The answer's length is the application's, whatever the prompt's: log-normal."""

    median: float
    sigma: float

    def draw(self, _prompt_tokens: int, rng: np.random.Generator) -> int:
        """Output tokens, whatever the prompt's length."""
        return round(rng.lognormal(math.log(self.median), self.sigma))


RULES: dict[str, Transducer | OpenTask] = {
    "translation": Transducer(1.1, 2),
    "rewrite": Transducer(0.9, 4),
    "summarise": OpenTask(55, 0.3),
    "classify": OpenTask(4, 0.4),
    "extract": OpenTask(38, 0.35),
    "code": OpenTask(150, 0.6),
    "chat": OpenTask(180, 0.7),
    "story": OpenTask(340, 0.45),
}

SENTENCES = (
    "The ferry leaves at half past six, but the harbour road is closed until the storm has passed.",
    "We measured the level of the reservoir every hour and found that it falls fastest just before dawn.",
    "Please send the signed contract to our office by Friday and keep one copy for your own records.",
    "Her grandfather repaired clocks for forty years and could tell a bad spring by its sound.",
    "The new tram line connects the university with the old market in less than ten minutes.",
    "Nobody had watered the tomatoes for a week, yet they were the best we ever picked.",
    "The committee postponed its decision because two of the reports contradicted each other.",
    "If the pump stops again, close the left valve first and wait until the pressure is below two bar.",
    "A heron stood in the shallow water and did not move while the whole class walked past.",
    "The museum lends its older maps only to libraries that can keep the humidity constant.",
    "My order arrived on time, but one of the cups was broken and the box had been opened.",
    "Snow is expected above eight hundred metres, with strong wind in the passes during the night.",
    "The bakery on the corner sells out of rye bread before most people have had breakfast.",
    "He explained the theorem twice, once with formulas and once with a piece of string.",
    "Our train was late, so we missed the connection and spent the evening in a small town by the river.",
    "The survey shows that people cycle more when the paths are lit, not when they are wider.",
)
LANGUAGES = ("German", "French", "Spanish", "Italian", "Polish", "Turkish", "Japanese", "Swahili")
STYLES = ("formal", "friendly", "very simple", "telegraphic", "polite but firm", "present-tense")
LABELS = (
    "positive, negative or neutral",
    "urgent or not urgent",
    "weather, travel, commerce or science",
    "question, request or statement",
)
FIELDS = ("place and time", "the actors and what they do", "numbers with their units", "objects that can be bought")
LANGUAGES_OF_CODE = ("Python", "Go", "TypeScript", "Rust", "SQL", "Bash")
TASKS = (
    "merges two sorted lists without copying more than needed",
    "finds the longest run of equal values in a sequence",
    "parses durations such as 1h30m into seconds and refuses anything else",
    "keeps the last N log lines of a stream in memory",
    "counts the words of a file, most frequent first",
    "checks whether brackets are balanced and says where they are not",
    "limits calls to ten a second with a token bucket",
    "rounds prices to five cents in a way that never loses a cent in the sum",
    "walks a directory tree and prints the largest files",
    "converts a roman numeral to an integer",
)
QUESTIONS = (
    "Why does bread go stale faster in the fridge",
    "How do tides work in a sea that is almost closed",
    "What should I look at before I buy a used bicycle",
    "How can two people share the rent fairly when one room is larger",
    "What is the difference between weather and climate",
    "How do I keep a sourdough alive during a holiday of three weeks",
    "Why do some rivers meander while others run straight",
    "What makes a good question in a job interview",
    "How does a lock lift a ship, and where does the water come from",
    "What can I cook with lentils, two carrots and an egg",
    "How do bees find their way home",
    "Why is the sky dark at night although there are so many stars",
)
TONES = ("Answer for a child of ten.", "Give the short version.", "Explain it step by step.", "")
HEROES = ("a lighthouse keeper", "a retired cartographer", "two rival gardeners", "an apprentice glassblower")
PLACES = ("in a village below a dam", "on a night train", "in a library without books", "at the edge of a salt lake")

Writer = Callable[[np.random.Generator], str]


def _pick(rng: np.random.Generator, values: Sequence[str]) -> str:
    return values[int(rng.integers(len(values)))]


def _text(rng: np.random.Generator, least: int, most: int) -> str:
    count = int(rng.integers(least, most + 1))
    return " ".join(SENTENCES[int(index)] for index in rng.permutation(len(SENTENCES))[:count])


WRITERS: dict[str, Writer] = {
    "translation": lambda rng: f"Translate from English to {_pick(rng, LANGUAGES)}: {_text(rng, 1, 5)}",
    "rewrite": lambda rng: f"Rewrite this in a {_pick(rng, STYLES)} style: {_text(rng, 1, 4)}",
    "summarise": lambda rng: f"Summarise in at most two sentences:\n{_text(rng, 6, 14)}",
    "classify": lambda rng: f"Answer with one label ({_pick(rng, LABELS)}): {_text(rng, 1, 2)}",
    "extract": lambda rng: f"List {_pick(rng, FIELDS)} found in this text as JSON:\n{_text(rng, 3, 8)}",
    "code": lambda rng: f"Write a {_pick(rng, LANGUAGES_OF_CODE)} function that {_pick(rng, TASKS)}.",
    "chat": lambda rng: f"{_pick(rng, QUESTIONS)}? {_pick(rng, TONES)}".strip(),
    "story": lambda rng: f"Write a short story about {_pick(rng, HEROES)} {_pick(rng, PLACES)}.",
}


def prompts(seed: int = SEED) -> Iterator[dict[str, str | int]]:
    """The sample prompts, the applications in turn; no prompt comes twice."""
    rng = np.random.default_rng(seed)
    seen: set[str] = set()
    for _ in range(PROMPTS_PER_APPLICATION):
        for application in RULES:
            prompt = _fresh(WRITERS[application], rng, seen)
            drawn = RULES[application].draw(estimate_tokens(prompt), rng)
            tokens = min(max(drawn, 1), OUTPUT_TOKENS_MAX)
            yield {"prompt": prompt, "application": application, "output_tokens": tokens}


def _fresh(write: Writer, rng: np.random.Generator, seen: set[str]) -> str:
    prompt = write(rng)
    while prompt in seen:
        # A small application runs out of combinations; a second thought makes the prompt a new one.
        prompt = f"{prompt} {_pick(rng, ('Then check your answer.', 'Keep it brief.', 'Say what you are unsure of.'))}"
    seen.add(prompt)
    return prompt


def arrivals(seed: int = SEED) -> Iterator[tuple[float, int, int]]:
    """The sample trace: seconds from its start, prompt tokens, answer tokens."""
    rng = np.random.default_rng(seed)
    shape = 1 / GAP_VARIATION**2
    at_s = 0.0
    while at_s < TRACE_SPAN_S:
        context = 1 + round(float(rng.lognormal(math.log(420), 0.9)))
        generated = 1 + round(float(rng.lognormal(math.log(110), 0.8)))
        yield at_s, min(context, 8_000), min(generated, OUTPUT_TOKENS_MAX)
        at_s += float(rng.gamma(shape, 1 / (shape * rate_at(at_s))))


def rate_at(at_s: float) -> float:
    """Requests a second at a time of the trace."""
    swing = 2.5 - 1.5 * math.cos(2 * math.pi * at_s / TRACE_SPAN_S)
    return swing * (2 if abs(at_s - TRACE_SPAN_S / 2) < 10 else 1)


def main(folder: Path) -> None:
    """Writes both files into the folder."""
    with (folder / "prompts.jsonl").open("w") as lines:
        lines.writelines(json.dumps(prompt) + "\n" for prompt in prompts())
    start = datetime(2025, 1, 1)
    with (folder / "trace.csv").open("w", newline="") as rows:
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerow(("TIMESTAMP", "ContextTokens", "GeneratedTokens"))
        for at_s, context, generated in arrivals():
            stamp = start + timedelta(seconds=at_s)
            writer.writerow((f"{stamp:%Y-%m-%d %H:%M:%S.%f}0", context, generated))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
