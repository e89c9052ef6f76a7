"""What is read of a request's body, whoever answers it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.errors import InvalidArgument
from forebay.core.openai import Question, read_question


def read(**values: Any) -> Question:
    return read_question(json.dumps({"model": "llama", **values}).encode())


def test_a_chat_of_one_question_is_that_question() -> None:
    assert read(messages=[{"role": "user", "content": "Hello"}]) == Question("llama", "Hello", True, turn_number=1)


def test_a_longer_chat_names_its_roles_and_keeps_its_system_prompt_apart() -> None:
    parts = [{"type": "text", "text": "And "}, {"type": "image_url", "image_url": {"url": "x"}}, {"text": "you?"}]
    turns = [("system", "Be brief."), ("user", "Hello"), ("assistant", None), ("user", parts)]
    question = read(messages=[{"role": role, "content": content} for role, content in turns])
    assert question.text == "system: Be brief.\nuser: Hello\nassistant: \nuser: And you?"
    assert (question.turn_number, question.system) == (2, "Be brief.")


def test_a_prompt_is_its_text_and_tokens_are_none() -> None:
    assert read(prompt="Hello").text == "Hello"
    assert read(prompt=["a", "b"]).text == "ab"
    assert read(prompt=[1, 2, 3]).text == ""
    assert read(input="Hello").text == "Hello"


def test_limits_and_flags_are_read_and_nonsense_in_them_counts_for_nothing() -> None:
    question = read(prompt="a", max_tokens=9, temperature=0, stream=True, stream_options={"include_usage": True})
    assert (question.tokens_max, question.temperature, question.is_stream, question.has_usage) == (9, 0.0, True, True)
    assert read(prompt="a", max_completion_tokens=5, max_tokens=9).tokens_max == 5
    odd = read(prompt="a", max_tokens="many", temperature="hot", stream="yes", stream_options=3)
    assert (odd.tokens_max, odd.temperature, odd.is_stream, odd.has_usage) == (0, 1.0, False, False)
    assert odd.asks_options


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"model": ""}', b'{"model": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_object_with_a_model_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        read_question(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["messages", "prompt", "content", "role", "text", "max_tokens", "temperature"]), inner
            )
        ),
    )
)
def test_whatever_the_fields_hold_is_read_or_refused(value: Any) -> None:
    values = value if isinstance(value, dict) else {"messages": value, "prompt": value, "max_tokens": value}
    text = read_question(json.dumps({**values, "model": "m"}).encode()).text
    assert isinstance(text.encode(), bytes)
