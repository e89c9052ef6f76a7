"""What users have becomes OpenAI's batch lines."""

import json
from typing import Any

import pytest

from forebay.cli.batch_input import CHAT, TEXT, requests_from
from forebay.core.errors import ConfigError


def read(*lines: str, model: str = "m", endpoint: str = CHAT, tokens_max: int | None = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in requests_from(lines, model, endpoint, tokens_max)]


def test_plain_lines_are_prompts_and_named_by_their_number() -> None:
    first, second = read("Hello", "", 'He said "hi"', tokens_max=9)
    assert first == {
        "custom_id": "line-1",
        "method": "POST",
        "url": CHAT,
        "body": {"messages": [{"role": "user", "content": "Hello"}], "model": "m", "max_tokens": 9},
    }
    assert (second["custom_id"], second["body"]["messages"][0]["content"]) == ("line-3", 'He said "hi"')


def test_objects_with_prompts_keep_their_name_and_settings() -> None:
    line = json.dumps({"prompt": "a\nb", "custom_id": "x", "max_tokens": 5, "temperature": 0.5, "other": 1})
    [chat] = read(line, "", tokens_max=9)
    assert chat["custom_id"] == "x"
    assert chat["body"] == {
        "messages": [{"role": "user", "content": "a\nb"}],
        "max_tokens": 5,
        "temperature": 0.5,
        "model": "m",
    }
    [text] = read(line, endpoint=TEXT)
    assert text["body"]["prompt"] == "a\nb"
    assert read('"quoted"')[0]["body"]["messages"][0]["content"] == "quoted"


def test_openai_s_lines_stay_as_they_are_and_only_lack_is_filled() -> None:
    line = {"custom_id": "a", "method": "POST", "url": TEXT, "body": {"model": "own", "prompt": "x", "max_tokens": 1}}
    assert read(json.dumps(line), tokens_max=9) == [line]
    del line["body"]["model"]  # type: ignore[attr-defined]
    assert read(json.dumps(line))[0]["body"]["model"] == "m"


@pytest.mark.parametrize(
    ("line", "message"),
    [("{broken", "line 2 is not valid JSON"), ('{"promt": "x"}', "line 2 has neither body nor prompt nor messages")],
)
def test_a_bad_line_is_named(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read("good", line)


def test_a_line_without_a_model_says_how_to_give_one() -> None:
    with pytest.raises(ConfigError, match="line 1 names no model; give --model"):
        read("Hello", model="")
