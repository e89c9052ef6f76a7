"""Prompts that are read can be paired with arrivals, each with its own lengths."""

from pathlib import Path

import pytest

from forebay.core.errors import ConfigError
from forebay.core.tokens import estimate_tokens
from forebay.simulator.traces.prompts import Prompt, pair, read_prompts
from forebay.simulator.workload.arrivals import Poisson
from tests.unit.simulator.traces.kit import DATA, needs_data, written

OPEN = Poisson(rate_per_s=1.0, duration_s=60.0).generate(1)


def test_prompts_bring_their_lengths_or_an_estimate(tmp_path: Path) -> None:
    lines = '{"prompt": "one", "output_tokens": 5, "prompt_tokens": 9}\n{"prompt": "two words", "output_tokens": 6}\n'
    workload = pair(OPEN, read_prompts(written(tmp_path, lines + '{"prompt": "unknown"}\n', "p.jsonl")), seed=3)
    assert workload.texts == ("one", "two words")
    lengths = {
        (text, prompt, output)
        for text, prompt, output in zip(
            workload.text.tolist(), workload.prompt_tokens.tolist(), workload.output_tokens.tolist(), strict=True
        )
    }
    assert lengths == {(0, 9, 5), (1, estimate_tokens("two words"), 6)}


def test_prompts_without_any_known_answer_are_an_error() -> None:
    with pytest.raises(ConfigError, match="output_tokens"):
        pair(OPEN, [Prompt("a"), Prompt("b", "chat")])


@pytest.mark.parametrize("value", ["0", '"3"', "-1", "1.5"])
def test_a_bad_prompt_length_is_an_error_with_its_line(value: str, tmp_path: Path) -> None:
    path = written(tmp_path, f'{{"prompt": "a"}}\n{{"prompt": "a", "prompt_tokens": {value}}}\n', "p.jsonl")
    with pytest.raises(ConfigError, match=r"p\.jsonl:2: prompt_tokens must be"):
        read_prompts(path)


@needs_data
def test_the_public_sets_bring_tokens_of_prompt_and_answer() -> None:
    prompts = read_prompts(DATA / "open" / "prompts" / "translation_gpt_mt.prompts.parquet")
    assert len(prompts) == 18_483
    assert all(prompt.prompt_tokens and prompt.output_tokens for prompt in prompts)
    workload = pair(OPEN, prompts, seed=1)
    assert workload.texts[int(workload.text[0])]
