import asyncio
import threading
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from forebay.core.errors import Unavailable
from forebay.core.prediction import LengthOutcome
from forebay.core.values import InferenceRequest
from forebay.predictor.lengths.examples import Example, MemoryExampleStore, group_of_prompt, packed, unpacked
from forebay.predictor.lengths.features import FEATURE_COUNT, FEATURES_VERSION, extract
from forebay.predictor.lengths.recorder import Limits, Recorder, examples_of

LIMITS = Limits(count_max=1_000, age_s=60, queue_max=100)
NOW_US = 1_700_000_000_000_000


def outcome(number: int, prompt: str = "") -> LengthOutcome:
    query = InferenceRequest(f"q{number}", "m", 10, prompt_head=prompt or f"Tell me about {number}", tenant="acme")
    return LengthOutcome(query, 100 + number, censored=number % 2 == 1)


class Store(MemoryExampleStore):
    """Is down while `down`, and remembers which threads wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.threads: set[int] = set()

    def add(self, examples: Sequence[Example]) -> None:
        self.threads.add(threading.get_ident())
        if self.down:
            raise Unavailable("the database does not answer")
        super().add(examples)


def recorder(store: MemoryExampleStore, limits: Limits = LIMITS) -> Recorder:
    return Recorder(lambda: store, limits, lambda: NOW_US, CollectorRegistry())


def kept(store: MemoryExampleStore) -> list[int]:
    return [one.generated_tokens - 100 for one in store.read(FEATURES_VERSION, 10_000)]


def test_neither_prompt_nor_id_is_kept() -> None:
    (found,) = examples_of([(NOW_US, outcome(1, "a secret prompt"))], b"salt")
    assert "secret" not in repr(found)
    assert (found.query.prompt_head, found.query.request_id) == ("", "")
    assert (found.query.tenant, found.generated_tokens, found.censored) == ("acme", 101, True)


def test_what_is_kept_gives_the_features_again() -> None:
    outcomes = [outcome(number) for number in range(3)]
    found = examples_of([(NOW_US, one) for one in outcomes], b"salt")
    rows = extract([one.query for one in outcomes])
    for one, row in zip(found, rows, strict=True):
        again = np.zeros(FEATURE_COUNT, dtype=np.float32)
        columns, values = unpacked(one.cells, FEATURE_COUNT)
        again[columns] = values
        assert np.array_equal(again, row)


@pytest.mark.parametrize(
    "cells",
    [
        b"x",
        zlib.compress(b"123"),
        zlib.compress(bytes(80_000_000)),
        packed(np.ones(11, dtype=np.float32)),
        packed(np.full(3, np.nan, dtype=np.float32)),
    ],
    ids=["no cells", "odd", "a bomb", "too wide", "no numbers"],
)
def test_cells_that_cannot_be_a_row_are_refused(cells: bytes) -> None:
    with pytest.raises(ValueError, match="cells that"):
        unpacked(cells, 10)


def test_groups_need_the_salt_and_a_prompt_without_text_has_none() -> None:
    assert group("a") == group("A ") != group("a", salt=b"two")
    assert group("") == 0


def test_prompts_that_only_begin_alike_are_told_apart_by_their_length() -> None:
    head = "You are a helpful assistant. " * 100
    assert group(head, 8_000) == group(head, 8_010) != group(head, 9_000)
    # All of the prompt is there, so that its count of tokens says nothing more.
    assert group(head, 700) == group(head, 900)
    assert group("short", 8_000) == group("short", 9_000)


def group(prompt: str, prompt_tokens: int = 10, salt: bytes = b"one") -> int:
    return group_of_prompt(InferenceRequest("q", "m", prompt_tokens, prompt_head=prompt), salt)


async def test_outcomes_are_written_off_the_event_loop() -> None:
    store = Store()
    one = recorder(store)
    one.offer([outcome(number) for number in range(70)])
    await one.flush()
    assert kept(store) == list(range(70))
    assert threading.get_ident() not in store.threads
    assert (one.kept_count, one.dropped_count) == (70, 0)


async def test_what_finds_no_room_is_dropped_and_counted() -> None:
    registry = CollectorRegistry()
    store = Store()
    one = Recorder(lambda: store, LIMITS, lambda: NOW_US, registry)
    one.offer([outcome(number) for number in range(150)])
    one.offer([outcome(150)])
    await one.flush()
    assert kept(store) == list(range(100))
    page = generate_latest(registry).decode()
    assert "forebay_predictor_examples_kept 100.0" in page
    assert "forebay_predictor_examples_dropped 51.0" in page


async def test_outcomes_wait_while_the_store_is_down() -> None:
    store = Store()
    store.down = True
    one = recorder(store)
    one.offer([outcome(number) for number in range(50)])
    await one.flush()
    one.offer([outcome(number) for number in range(50, 120)])
    store.down = False
    await one.flush()
    assert kept(store) == list(range(100))
    assert one.dropped_count == 20


async def test_a_store_that_cannot_be_opened_is_tried_again() -> None:
    store, tries = Store(), []

    def opened() -> Store:
        tries.append(1)
        if len(tries) < 3:
            raise Unavailable("not yet")
        return store

    one = Recorder(opened, LIMITS, lambda: NOW_US, CollectorRegistry())
    one.offer([outcome(1)])
    for _ in range(4):
        await one.flush()
    assert len(tries) == 3
    assert kept(store) == [1]


async def test_what_no_store_takes_is_dropped_and_the_rest_goes_on() -> None:
    class Picky(Store):
        def add(self, examples: Sequence[Example]) -> None:
            if any(one.generated_tokens == 100 for one in examples):
                raise ValueError("not this one")
            super().add(examples)

    store = Picky()
    one = recorder(store)
    one.offer([outcome(number) for number in range(64)])
    await one.flush()
    assert kept(store) == list(range(32, 64))
    assert one.dropped_count == 32


async def test_the_oldest_go_when_there_are_too_many() -> None:
    store = Store()
    one = recorder(store, Limits(count_max=40, age_s=60, queue_max=2_000))
    for start in range(0, 600, 32):
        one.offer([outcome(number) for number in range(start, start + 32)])
        await one.flush()
    assert len(kept(store)) < 40 + 500 + 32


async def test_it_runs_until_it_is_told_to_stop() -> None:
    store = Store()
    one = recorder(store)
    running = asyncio.create_task(one.run())
    one.offer([outcome(1)])
    while not kept(store):
        await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
