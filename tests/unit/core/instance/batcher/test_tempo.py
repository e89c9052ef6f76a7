"""GMAX: gain a unit of time among requests of similar length, by hand."""

import pytest

from forebay.core.instance import EngineFlags
from forebay.core.instance.batcher import BatchView
from forebay.core.instance.batcher.tempo import Tempo
from tests.unit.core.instance.batcher.seen import CLEAR, MS_PS, Seen, decodes, plan, waits

TOKEN_MS = 10


def density(one: Seen, now_ms: int = 0) -> float:
    """In tokens a millisecond."""
    view = BatchView([], [], 40, CLEAR, EngineFlags(), now_ms * MS_PS)
    return Tempo().density(one, view, TOKEN_MS * MS_PS) * MS_PS


def test_the_density_is_the_gain_to_come_over_the_time_to_come() -> None:
    # 40 prompt tokens of 1 ms and 20 of the answer of 10 ms: 40 + 8 * 20 in 240 ms.
    assert density(waits("a", 40, predicted_tokens=20)) == pytest.approx(200 / 240)
    # Once it has its first token only the answer counts: 8 * 15 in 150 ms.
    assert density(decodes("a", 44, 5, predicted_tokens=20)) == pytest.approx(120 / 150)


def test_what_comes_late_is_worth_less() -> None:
    # The first token is due after 100 ms and would come after 150 + 50: a quarter of the prompt's worth.
    late = waits("a", 40, predicted_tokens=20, due_ms=100, ttft_slo_us=100_000)
    assert density(late) == pytest.approx(200 / 240)
    assert density(late, 150) == pytest.approx((160 + 40 / 4) / 240)
    # The answer is due after 100 + 20 * 7 ms and would end after 240 + 240: a quarter as well.
    slow = waits("a", 40, predicted_tokens=20, due_ms=100, ttft_slo_us=100_000, tpot_slo_us=7_000)
    assert density(slow) == pytest.approx(200 / 240)
    assert density(slow, 240) == pytest.approx((160 / 4 + 40 * (100 / 290) ** 2) / 240)


def test_the_denser_request_takes_the_memory() -> None:
    running = [decodes("a", 60, 1, predicted_tokens=90, due_ms=1, ttft_slo_us=1_000, tpot_slo_us=1)]
    planned = plan("tempo", running, [waits("b", 40, predicted_tokens=20)], free_blocks=1)
    assert (planned.preempted, planned.admitted) == (("a",), ("b",))
    kept = plan("tempo:evictions_max=0", running, [waits("b", 40, predicted_tokens=20)], free_blocks=1)
    assert (kept.preempted, kept.admitted) == ((), ())


def test_neighbours_in_length_go_together() -> None:
    # The two densest fit, one short and one long; of the densest three the two short ones are neighbours.
    waiting = [
        waits("a", 10, predicted_tokens=1),
        waits("b", 100, predicted_tokens=11),
        waits("c", 40, predicted_tokens=5),
    ]
    assert density(waiting[0]) > density(waiting[1]) > density(waiting[2])
    assert plan("tempo:spare=1.0", [], waiting, free_blocks=11).admitted == ("a", "b")
    assert plan("tempo:spare=1.5", [], waiting, free_blocks=11).admitted == ("a", "c")


@pytest.mark.parametrize("text", ["tempo:spare=0.5", "tempo:penalty=0", "tempo:evictions_max=-1"])
def test_a_parameter_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        plan(text)
