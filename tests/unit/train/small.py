"""Small sets of examples whose lengths can be learned, for tests of training."""

import json
from pathlib import Path

import numpy as np

VERBS = {"list": 20, "explain": 200, "translate": 40, "write": 400}
SEED = 7


def write_examples(path: Path, count: int = 500, scale: float = 1.0) -> Path:
    """Prompts whose first word tells how long the answer is, give or take a fifth; a few were cut."""
    generator = np.random.default_rng(SEED)
    with path.open("w") as lines:
        for number in range(count):
            verb = str(generator.choice(list(VERBS)))
            tokens = int(scale * VERBS[verb] * np.exp(0.2 * generator.standard_normal()))
            row = {
                "prompt": f"{verb} item {number % (count - 50)}",
                "response_tokens": tokens,
                "prompt_tokens": int(generator.integers(5, 40)),
                "model": ["llama-8b", "qwen-7b"][number % 2],
                "application": verb,
                "censored": number % 50 == 0,
            }
            lines.write(json.dumps(row) + "\n")
    return path
