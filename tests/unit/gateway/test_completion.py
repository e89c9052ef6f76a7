import json

import pytest

from forebay.core.errors import ForebayError, InvalidArgument, Unimplemented
from forebay.gateway.completion import Completion, parse_chat, parse_text

USER = [{"role": "user", "content": "Hi"}]


def chat(**values: object) -> Completion:
    return parse_chat(json.dumps({"model": "m", "messages": USER, **values}).encode(), 1024)


def text(**values: object) -> Completion:
    return parse_text(json.dumps({"model": "m", "prompt": "Hi", **values}).encode())


def test_a_single_user_message_is_the_text() -> None:
    assert chat().text == "Hi"


def test_several_messages_become_lines_with_their_roles() -> None:
    messages = [{"role": "system", "content": "Be brief."}, *USER, {"role": "assistant", "content": None}]
    assert chat(messages=messages).text == "system: Be brief.\nuser: Hi\nassistant: "


def test_a_chat_tells_which_question_of_the_user_it_is() -> None:
    assert chat().turn_number == 1
    assert chat(messages=[*USER, {"role": "assistant", "content": "Hi!"}, *USER]).turn_number == 2
    assert text().turn_number == 0


def test_a_chat_names_its_system_prompt_by_a_digest() -> None:
    system = {"role": "system", "content": "Be brief."}
    assert chat(messages=[system, *USER]).system_digest == "213c22ed7234eb11"
    assert chat(messages=[{**system, "role": "developer"}, *USER]).system_digest == "213c22ed7234eb11"
    assert chat().system_digest == text().system_digest == ""


def test_parts_of_text_are_joined() -> None:
    content = [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]
    assert chat(messages=[{"role": "user", "content": content}]).text == "Hi there"


def test_sampling_parameters_are_passed_on_as_they_are() -> None:
    read = chat(
        temperature=0.5, top_p=1, seed=7, stop="\n", presence_penalty=-1, top_k=3, ignore_eos=True, max_tokens=9
    )
    assert read.sampling == {
        "temperature": 0.5,
        "top_p": 1.0,
        "seed": 7,
        "stop": ["\n"],
        "presence_penalty": -1.0,
        "top_k": 3,
        "ignore_eos": True,
        "max_tokens": 9,
    }
    assert (read.tokens_max, read.temperature) == (9, 0.5)


def test_nothing_is_passed_on_that_the_client_did_not_set_but_a_limit() -> None:
    assert chat().sampling == {"max_tokens": 1024}
    assert text().sampling == {"max_tokens": 16}


def test_the_newer_name_of_the_limit_wins() -> None:
    assert chat(max_tokens=5, max_completion_tokens=6).tokens_max == 6


@pytest.mark.parametrize("name", ["temperature", "stop", "stream", "n", "max_tokens", "stream_options", "tools"])
def test_null_means_not_set(name: str) -> None:
    assert chat(**{name: None}) == chat()


def test_unknown_fields_are_ignored() -> None:
    assert chat(user="me", metadata={"a": 1}, shoe_size=43) == chat()


def test_usage_is_asked_for_by_stream_options() -> None:
    assert chat(stream=True, stream_options={"include_usage": True}).has_usage
    assert not chat(stream=True).has_usage


def test_a_prompt_may_stand_in_a_list_of_one() -> None:
    assert text(prompt=["Hi"]) == text()


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"model": ""}, "model"),
        ({"model": "x" * 201}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "king", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens"),
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"seed": 0.5}, "seed"),
        ({"stop": 5}, "stop"),
        ({"stop": [5]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        chat(**values)
    assert list(caught.value.violations) == [param]
    assert caught.value.message.startswith(param)


@pytest.mark.parametrize(
    "values",
    [
        {"tools": [{"type": "function"}]},
        {"functions": [{}]},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"logit_bias": {"5": 1}},
        {"audio": {"voice": "alto"}},
    ],
)
def test_what_would_change_the_answer_and_is_not_offered_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(Unimplemented, match="not supported"):
        chat(**values)


def test_what_is_not_offered_may_be_turned_off_explicitly() -> None:
    assert chat(tools=[], logprobs=False, response_format={"type": "text"}) == chat()
    assert text(echo=False, best_of=1, logit_bias={}) == text()


@pytest.mark.parametrize("prompt", [None, "", [], ["a", "b"], [1, 2], [[1]], 5, {"a": 1}, [""]])
def test_a_prompt_that_is_not_one_text_is_refused(prompt: object) -> None:
    with pytest.raises(InvalidArgument) as caught:
        text(prompt=prompt)
    assert list(caught.value.violations) == ["prompt"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"model": "m", "temperature": NaN}', "NaN is not a number"),
        (b'{"model": "\xff"}', "not valid UTF-8 at byte 11"),
        (b"[1]", "must be a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_a_body_that_is_not_an_object_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(ForebayError, match=said):
        parse_chat(body, 1024)
