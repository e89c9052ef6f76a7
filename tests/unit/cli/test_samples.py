"""The samples are what their generator makes, and follow the rule that it documents."""

import json
from pathlib import Path

import numpy as np

from forebay.cli.loaders import SAMPLES
from forebay.core.tokens import estimate_tokens
from forebay.samples import generate


def test_the_samples_that_ship_are_those_that_the_generator_makes(tmp_path: Path) -> None:
    generate.main(tmp_path)
    for name in ("prompts.jsonl", "trace.csv"):
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes()


def test_no_prompt_comes_twice() -> None:
    texts = [prompt["prompt"] for prompt in generate.prompts()]
    assert len(set(texts)) == len(texts)


def test_answers_of_translations_follow_their_prompts_and_those_of_stories_do_not() -> None:
    rows = [json.loads(line) for line in (SAMPLES / "prompts.jsonl").read_text().splitlines()]

    def correlation(application: str) -> float:
        chosen = [row for row in rows if row["application"] == application]
        lengths = [estimate_tokens(row["prompt"]) for row in chosen]
        return float(np.corrcoef(lengths, [row["output_tokens"] for row in chosen])[0, 1])

    assert correlation("translation") > 0.8
    assert abs(correlation("story")) < 0.6


def test_the_trace_has_the_rate_that_its_rule_gives() -> None:
    times = [at_s for at_s, _, _ in generate.arrivals()]
    expected = sum(generate.rate_at(second) for second in range(int(generate.TRACE_SPAN_S)))
    assert abs(len(times) - expected) < 0.15 * expected
    assert times == sorted(times)
