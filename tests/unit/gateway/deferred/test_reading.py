"""How the requests of a job are read."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.errors import InvalidArgument, ModelUnknown
from forebay.gateway.deferred.reading import Reader, Rules
from forebay.gateway.deferred.values import NewRequest

TEXT = "/v1/completions"


def check_model(model: str) -> None:
    if model != "m":
        raise ModelUnknown(f"the model {model!r} does not exist")


def reader(requests_max: int = 100, body_bytes_max: int = 1_000) -> Reader:
    return Reader(Rules(TEXT, requests_max, body_bytes_max, 64, lambda model, text: len(text), check_model))


def line(name: str, **body: object) -> str:
    values = {"model": "m", "prompt": "Hello", **body}
    return json.dumps({"custom_id": name, "method": "POST", "url": TEXT, "body": values})


def read(content: bytes, size: int = 1 << 20) -> list[NewRequest]:
    return list(reader().from_pieces(content[at : at + size] for at in range(0, len(content), size)))


def test_a_request_keeps_its_body_and_is_counted() -> None:
    [found] = read(line("a", prompt="Grüße", max_tokens=7).encode())
    assert (found.number, found.custom_id, found.model, found.prompt_tokens, found.tokens_max) == (1, "a", "m", 5, 7)
    assert json.loads(found.body) == {"model": "m", "prompt": "Grüße", "max_tokens": 7}
    assert found.body.isascii()
    assert "Gr" not in repr(found), "prompts stay out of logs"


def test_empty_lines_count_but_hold_nothing_and_line_ends_may_vary() -> None:
    content = f"\ufeff{line('a')}\r\n\n  \n{line('b')}".encode()
    assert [(one.number, one.custom_id) for one in read(content)] == [(1, "a"), (2, "b")]
    with pytest.raises(InvalidArgument, match="line 4: "):
        read(f"{line('a')}\n\n\n{{".encode())


@given(size=st.integers(1, 400), names=st.lists(st.text(st.characters(min_codepoint=32), min_size=1), unique=True))
def test_lines_come_whole_however_the_pieces_cut_them(size: int, names: list[str]) -> None:
    names = [name for name in names if len(name.encode("utf-8", "surrogatepass")) <= 512 and name.isprintable()]
    content = "\n".join(line(name) for name in names).encode()
    if names:
        assert [one.custom_id for one in read(content, size)] == names


def test_a_surrogate_in_a_name_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="line 1: custom_id"):
        read(line("\ud800").encode())


def test_a_line_that_never_ends_is_refused_before_it_is_all_read() -> None:
    taken = []

    def pieces() -> Iterable[bytes]:
        for number in range(1_000):
            taken.append(number)
            yield b"x" * 1_000

    with pytest.raises(InvalidArgument, match="line 1: is longer than"):
        list(reader().from_pieces(pieces()))
    assert len(taken) < 10


@pytest.mark.parametrize(
    "content", [b'{"a": 1', b"\xff\xfe", b"[" * 100_000, b'"text"', b"null", b'{"custom_id": 1e999999}', b"1" * 5_000]
)
def test_nonsense_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument, match="line 1"):
        read(content)


def test_requests_that_come_by_themselves_are_checked_alike() -> None:
    one = reader(requests_max=2)
    body = json.dumps({"model": "m", "prompt": "x"}).encode()
    assert one.add(1, "a", body).number == 1
    with pytest.raises(InvalidArgument, match="line 2: custom_id 'a'"):
        one.add(2, "a", body)
    assert one.add(2, "b", body).number == 2
    with pytest.raises(InvalidArgument, match="at most 2 requests"):
        one.add(3, "c", body)


def test_a_model_must_exist_and_be_the_same_everywhere() -> None:
    with pytest.raises(InvalidArgument, match="line 1: the model 'x' does not exist") as unknown:
        read(line("a", model="x").encode())
    assert unknown.value.code == "MODEL_UNKNOWN"
    with pytest.raises(InvalidArgument, match="line 2: model is 'x'"):
        read(f"{line('a')}\n{line('b', model='x')}".encode())


def test_only_two_endpoints_can_wait() -> None:
    with pytest.raises(InvalidArgument, match="endpoint must be one of /v1/chat/completions, /v1/completions"):
        Reader(Rules("/v1/embeddings", 1, 1, 1, lambda model, text: 1, check_model))
