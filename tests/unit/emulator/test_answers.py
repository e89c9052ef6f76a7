"""Lengths come from the file where it knows the prompt, else from a draw that never changes; text is filler."""

import json
import statistics

import pytest

from forebay.core.errors import ConfigError
from forebay.emulator.answers import Answer, Answers, sha1, words
from forebay.emulator.config import Lengths


def test_a_known_prompt_has_the_length_of_the_file() -> None:
    line = json.dumps({"prompt": "Why?", "output_tokens": 42, "input_tokens": 7, "hit_tokens": 3})
    assert Answers(Lengths(), [line, ""]).find("m", "Why?") == Answer(7, 42, 3)


def test_a_prompt_may_be_named_by_its_hash() -> None:
    line = json.dumps({"prompt_sha1": sha1("Why?"), "output_tokens": 42})
    answers = Answers(Lengths(), [line])
    assert answers.find("m", "Why?") == Answer(1, 42)
    assert len(answers) == 1


def test_the_hash_is_plain_sha1_of_the_text() -> None:
    assert sha1("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d"


def test_an_unknown_prompt_has_one_length_for_each_model() -> None:
    first, again = (Answers(Lengths()).find("m", "a new question") for _ in range(2))
    assert first == again
    lengths = {Answers(Lengths()).find(f"m{number}", "a new question").output_tokens for number in range(20)}
    assert len(lengths) > 10


def test_drawn_lengths_follow_the_distribution() -> None:
    answers = Answers(Lengths(median_tokens=200, sigma=0.5))
    drawn = [answers.find("m", f"question {number}").output_tokens for number in range(2_000)]
    assert statistics.median(drawn) == pytest.approx(200, rel=0.08)
    assert statistics.mean(drawn) == pytest.approx(200 * 2.718281828 ** (0.5**2 / 2), rel=0.08)
    assert min(drawn) >= 1


def test_even_an_empty_looking_prompt_has_a_token() -> None:
    assert Answers(Lengths()).find("m", "").input_tokens == 1


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"prompt": "x"}',
        '{"output_tokens": 3}',
        '{"prompt": 3, "output_tokens": 3}',
        '{"prompt": "x", "output_tokens": "many"}',
        '{"prompt": "x", "output_tokens": 0}',
        '{"prompt": "x", "output_tokens": 3, "input_tokens": -1}',
    ],
)
def test_a_bad_line_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(ConfigError, match="answers file, line 2"):
        Answers(Lengths(), ['{"prompt": "y", "output_tokens": 1}', line])


def test_chunks_of_text_join_to_the_whole() -> None:
    whole = words(0, 100)
    assert words(0, 30) + words(30, 1) + words(31, 0) + words(31, 69) == whole
    assert len(whole.split()) == 100
