"""The hidden truth of an emulated model: how long each answer is, and the words that fill it."""

import hashlib
import json
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

from forebay.core.errors import ConfigError
from forebay.core.tokens import estimate_tokens
from forebay.emulator.config import Lengths

WORDS = tuple(
    "the water runs over old stone and fills a wide still pool before it turns each slow wheel "  # noqa: SIM905
    "then falls away to meet the river where it bends near tall reeds so all who wait may drink".split()
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model makes of one prompt, in tokens; `hit_tokens` of the input lie in the prefix cache."""

    input_tokens: int
    output_tokens: int
    hit_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Known:
    output_tokens: int
    input_tokens: int = 0
    hit_tokens: int = 0


class Answers:
    """Looks answers up by the SHA-1 of the prompt's text; what it does not know it draws, always the same way.

    Draws are log-normal, seeded by model and prompt, so a prompt has one length a model in every run.
    """

    def __init__(self, lengths: Lengths, lines: Iterable[str] = ()) -> None:
        self._lengths = lengths
        self._known = dict(_read(number, line) for number, line in enumerate(lines, start=1) if line.strip())

    def __len__(self) -> int:
        return len(self._known)

    def find(self, model: str, prompt: str) -> Answer:
        """The answer of `model` to `prompt`."""
        known = self._known.get(sha1(prompt))
        estimated_tokens = max(1, estimate_tokens(prompt))
        if known is None:
            return Answer(estimated_tokens, self._draw(model, prompt))
        return Answer(known.input_tokens or estimated_tokens, known.output_tokens, known.hit_tokens)

    def _draw(self, model: str, prompt: str) -> int:
        seed = hashlib.sha1(f"{model}\n{prompt}".encode(), usedforsecurity=False).digest()
        generator = random.Random(int.from_bytes(seed[:8], "big"))
        tokens = generator.lognormvariate(math.log(self._lengths.median_tokens), self._lengths.sigma)
        return max(1, round(tokens))


def sha1(prompt: str) -> str:
    """The name of a prompt in an answers file."""
    return hashlib.sha1(prompt.encode(), usedforsecurity=False).hexdigest()


def words(first: int, count: int) -> str:
    """Tokens number `first` (from 0) and on of an answer's text; one token is one word."""
    text = " ".join(WORDS[number % len(WORDS)] for number in range(first, first + count))
    return f" {text}" if first and count else text


def _read(number: int, line: str) -> tuple[str, _Known]:
    """One line of an answers file: `prompt` or `prompt_sha1`, `output_tokens`, maybe `input_tokens`, `hit_tokens`."""
    try:
        entry = json.loads(line)
        name = str(entry["prompt_sha1"]) if "prompt_sha1" in entry else sha1(entry["prompt"])
        counts = [int(entry.get(key, 0)) for key in ("input_tokens", "hit_tokens")]
        known = _Known(int(entry["output_tokens"]), *counts)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"answers file, line {number}: need prompt or prompt_sha1, and output_tokens") from error
    if known.output_tokens < 1 or min(known.input_tokens, known.hit_tokens) < 0:
        raise ConfigError(f"answers file, line {number}: output_tokens must be at least 1, the others not negative")
    return name, known
