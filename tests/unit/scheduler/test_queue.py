from hypothesis import given
from hypothesis import strategies as st

from forebay.scheduler.deadlines import NEVER_US
from forebay.scheduler.policy.orderer.fcfs import Fcfs
from forebay.scheduler.policy.orderer.shortest_predicted import ShortestPredicted
from forebay.scheduler.queue import Held, HeldBook, HeldQueue
from tests.unit.scheduler.kit import prediction, request


def held(name: str, sequence: int, tokens: int = 50, arrived_us: int = 1_000, model: str = "m") -> Held:
    quantiles = prediction(tokens).quantiles
    return Held(request(name, model), quantiles, "test@1", "", 0, 11, arrived_us, arrived_us + 1_000, sequence)


def names(entries: list[Held]) -> list[str]:
    return [one.request.request_id for one in entries]


def test_equal_ranks_go_by_arrival() -> None:
    queue = HeldQueue()
    for sequence, name in enumerate("dbca"):
        queue.push(held(name, sequence))
    assert queue.first(Fcfs(), 2_000).request.request_id == "d"
    assert names(list(queue.ranked(ShortestPredicted(), 2_000))) == ["d", "b", "c", "a"]


def test_the_oldest_is_known_in_any_order() -> None:
    queue = HeldQueue()
    assert queue.oldest_us() is None
    for sequence, arrived_us in enumerate((5_000, 3_000, 4_000)):
        queue.push(held(str(sequence), sequence, arrived_us=arrived_us))
    queue.remove("0")
    assert queue.oldest_us() == 3_000


def test_requests_come_due_by_their_own_deadline() -> None:
    book = HeldBook()
    for sequence, arrived_us in enumerate((5_000, 3_000, 4_000)):
        book.push(held(str(sequence), sequence, arrived_us=arrived_us))
    assert book.deadlines.next_us() == 4_000
    assert names(book.due(5_000)) == ["1", "2"]
    assert "0" in book
    assert "1" not in book
    assert len(book) == 1


def test_a_queue_that_is_empty_again_is_forgotten() -> None:
    book = HeldBook()
    book.push(held("a", 1, model="n"))
    book.remove("a")
    assert not book.queues
    assert book.deadlines.next_us() == NEVER_US


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 500)), max_size=80))
def test_pushes_and_removals_leave_what_a_dictionary_would(changes: list[tuple[int, int]]) -> None:
    queue, plain = HeldQueue(), dict[str, Held]()
    for sequence, (number, tokens) in enumerate(changes):
        name = str(number)
        if name in plain:
            assert queue.remove(name) is plain.pop(name)
        else:
            plain[name] = held(name, sequence, tokens)
            queue.push(plain[name])
        assert len(queue) == len(plain)
        assert queue.predicted_tokens == sum(one.quantiles.p50 for one in plain.values())
        shortest = sorted(plain.values(), key=lambda one: (one.quantiles.p50, one.sequence))
        assert list(queue.ranked(ShortestPredicted(), 9_000)) == shortest if shortest else not len(queue)
        if shortest:
            assert queue.first(ShortestPredicted(), 9_000) is shortest[0]
