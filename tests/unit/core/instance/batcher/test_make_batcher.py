"""Batchers by name, with parameters."""

import pytest

from forebay.core.instance.batcher import BATCHERS, make_batcher
from forebay.core.instance.batcher.alise import Alise


@pytest.mark.parametrize("name", BATCHERS)
def test_a_name_is_a_batcher_with_its_defaults(name: str) -> None:
    assert make_batcher(name) == BATCHERS[name]()


def test_parameters_follow_the_name() -> None:
    assert make_batcher("alise:queue_count=4,promote_s=2.5") == Alise(queue_count=4, promote_s=2.5)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("magic", "batcher must be one of accelgen, alise, .*, got 'magic'"),
        ("alise:queues=4", "no parameter 'queues'; known: queue_count, first_s"),
        ("alise:queue_count=many", "queue_count must be a number, got 'many'"),
        ("alise:queue_count=2.5", "queue_count must be a number"),
        ("alise:promote_s=0", "must be positive"),
        ("static:chunk_tokens=4", "known: none"),
    ],
)
def test_what_is_no_batcher_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_batcher(text)


@pytest.mark.parametrize(
    "text",
    [
        "accelgen:window_count=0",
        "autellix:first_tokens=0",
        "fastserve:quantum_s=0",
        "sarathi:chunk_tokens=0",
        "sarathi:chunk_tokens_min=600",
        "slos_serve:horizon_us=0",
    ],
)
def test_a_parameter_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"positive|at most"):
        make_batcher(text)
