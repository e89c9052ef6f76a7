"""Which requests the model on the real Triton lets into its engine, without a Triton."""

import sys
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[3] / "compose/triton/models/smollm2/1/batches.py"


@pytest.fixture(scope="module")
def batches() -> Any:
    spec = spec_from_file_location("smollm2_batches", FILE)
    assert spec
    assert spec.loader
    module = sys.modules["smollm2_batches"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(eq=False)
class Job:
    name: str
    batch_id: str = ""
    batch_count: int = 0
    came_s: float = 0.0


def names(jobs: list[Job]) -> list[str]:
    return [job.name for job in jobs]


def queue_of(queue: Any, *jobs: Job) -> Any:
    for job in jobs:
        queue.add(job)
    return queue


def test_continuous_requests_fill_free_slots_in_their_order(batches: Any) -> None:
    queue = queue_of(batches.Continuous(2), Job("a"), Job("b"), Job("c"))
    assert names(queue.next(0, 0.0)) == ["a", "b"]
    assert names(queue.next(2, 0.0)) == []
    assert names(queue.next(1, 0.0)) == ["c"]


def test_a_static_batch_enters_whole_and_alone(batches: Any) -> None:
    queue = queue_of(batches.StaticBatches(8, 2.0), Job("a", "x", 2), Job("b", "y", 1))
    assert names(queue.next(0, 0.0)) == ["b"]
    queue.add(Job("c", "x", 2))
    assert names(queue.next(1, 0.0)) == []
    assert names(queue.next(0, 0.0)) == ["a", "c"]


def test_a_batch_that_stays_incomplete_enters_after_a_while(batches: Any) -> None:
    queue = queue_of(batches.StaticBatches(8, 2.0), Job("a", "x", 3, 1.0), Job("b", "x", 3, 1.5))
    assert names(queue.next(0, 2.9)) == []
    assert names(queue.next(0, 3.0)) == ["a", "b"]


def test_a_request_that_left_is_not_waited_for(batches: Any) -> None:
    queue = queue_of(batches.StaticBatches(8, 2.0), Job("a", "x", 2))
    queue.waiting.clear()
    queue.add(Job("b", "x", 2))
    assert names(queue.next(0, 0.0)) == ["b"]


def test_a_batch_larger_than_the_engine_enters_in_parts(batches: Any) -> None:
    queue = queue_of(batches.StaticBatches(2, 2.0), *(Job(name, "x", 3) for name in "abc"))
    assert names(queue.next(0, 0.0)) == ["a", "b"]
    assert names(queue.next(0, 0.0)) == ["c"]


def test_halves_of_a_batch_come_next_and_nobody_joins_them(batches: Any) -> None:
    queue = queue_of(batches.StaticBatches(8, 2.0), *(Job(name, "x", 3) for name in "abc"))
    running = queue.next(0, 0.0)
    queue_of(queue, Job("d", "y", 1))
    queue.put_back(running)
    assert [names(queue.next(0, 0.0)) for _ in range(4)] == [["a", "b"], ["c"], ["d"], []]
