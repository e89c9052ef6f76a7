"""AccelGen: chunks by the tightest promise, packed by compute and memory, by hand."""

from tests.unit.core.instance.batcher.seen import chunks, decodes, plan, prefills, waits

TIGHT, LOOSE = {"tpot_slo_us": 50_000}, {"tpot_slo_us": 80_000}


def test_the_tightest_promise_of_who_decodes_bounds_the_chunk() -> None:
    # Two decodes take 20 ms: 30 ms are left to the tight one, and as many tokens.
    running = [decodes("a", 8, **TIGHT), decodes("b", 8, **LOOSE)]
    assert chunks(plan("accelgen", running, [waits("c", 90, **LOOSE)])) == {"c": 30}
    assert chunks(plan("accelgen", running[1:], [waits("c", 90, **TIGHT)])) == {"c": 70}
    assert chunks(plan("accelgen", [decodes("a", 8)], [waits("c", 95)])) == {"c": 95}


def test_decodes_that_exceed_the_promise_alone_leave_nothing_to_prompts() -> None:
    running = [decodes(name, 8, **TIGHT) for name in "abcdef"]
    planned = plan("accelgen", [*running, prefills("g", 60, 20)], [waits("h", 9)])
    assert (len(planned.decodes), planned.chunks, planned.admitted, planned.preempted) == (6, (), (), ())


def test_begun_prompts_come_before_new_ones() -> None:
    planned = plan("accelgen", [prefills("b", 60, 20, **LOOSE)], [waits("a", 90, predicted_tokens=9, **TIGHT)])
    assert chunks(planned) == {"b": 40, "a": 60}


def test_the_tightest_promise_enters_first_and_equals_together() -> None:
    waiting = [waits("a", 20, **LOOSE), waits("b", 20, **TIGHT), waits("c", 20), waits("d", 20, **TIGHT)]
    assert plan("accelgen:tokens_default=10", [], waiting).admitted == ("b", "d", "a", "c")


def test_of_equals_enters_who_is_nearest_to_what_is_left() -> None:
    # All 100 tokens and 40 blocks are left: the largest is nearest, and then 20 tokens are.
    waiting = [waits(name, tokens, predicted_tokens=1) for name, tokens in (("a", 20), ("b", 80), ("c", 60))]
    planned = plan("accelgen", [], waiting)
    assert planned.admitted == ("b", "a")
    assert chunks(planned) == {"b": 80, "a": 20}


def test_memory_for_the_predicted_answer_has_to_be_there() -> None:
    running = [decodes("a", 100)]
    waiting = [waits("b", 20, predicted_tokens=100, predicted_tokens_p90=271)]
    assert plan("accelgen", running, waiting).admitted == ()
    waiting = [waits("b", 20, predicted_tokens=100, predicted_tokens_p90=270)]
    assert plan("accelgen", running, waiting).admitted == ("b",)


def test_alone_a_request_enters_however_much_it_is_expected_to_need() -> None:
    assert plan("accelgen", [], [waits("b", 20, predicted_tokens=9_000)]).admitted == ("b",)


def test_the_impatient_come_first_in_order_of_arrival() -> None:
    waiting = [waits("a", 20, **LOOSE), waits("b", 20), waits("c", 20, since_ms=500, **TIGHT)]
    assert plan("accelgen:patience_s=1.0,tokens_default=10", [], waiting, now_ms=1_000).admitted == ("a", "b", "c")
