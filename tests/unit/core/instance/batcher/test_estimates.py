"""What is expected of a request, by hand."""

from forebay.core.instance.batcher.estimates import (
    blocks_expected,
    expected_tokens,
    overrun_count,
    prefill_ps,
    remaining_ps,
)
from tests.unit.core.instance.batcher.seen import CLEAR, MS_PS, decodes, prefills, waits


def test_an_overrun_prediction_doubles_until_it_is_longer_than_the_answer() -> None:
    assert expected_tokens(waits("a", 30, predicted_tokens=20), 256) == 20
    assert expected_tokens(decodes("a", 50, 19, predicted_tokens=20), 256) == 20
    assert expected_tokens(decodes("a", 50, 20, predicted_tokens=20), 256) == 40
    assert expected_tokens(decodes("a", 150, 85, predicted_tokens=20), 256) == 160
    assert [overrun_count(decodes("a", 150, n, predicted_tokens=20), 256) for n in (19, 20, 39, 40, 85)] == [
        0,
        1,
        1,
        2,
        3,
    ]


def test_where_nobody_predicted_the_default_is_taken() -> None:
    assert expected_tokens(waits("a", 30), 256) == 256
    assert expected_tokens(decodes("a", 300, 256), 256) == 512


def test_the_remaining_time_is_that_of_prompt_and_answer_alone() -> None:
    # 40 prompt tokens at the speed of a full iteration, 1 ms each, and 20 tokens of 10 ms.
    assert remaining_ps(waits("a", 40, predicted_tokens=20), CLEAR, 256) == (40 + 200) * MS_PS
    assert remaining_ps(prefills("a", 40, 30, predicted_tokens=20), CLEAR, 256) == (10 + 200) * MS_PS
    assert remaining_ps(decodes("a", 45, 6, predicted_tokens=20), CLEAR, 256) == 140 * MS_PS
    assert prefill_ps(waits("a", 40, hit_tokens=30), CLEAR) == 10 * MS_PS


def test_memory_is_expected_by_the_upper_prediction() -> None:
    assert blocks_expected(waits("a", 41, predicted_tokens=20), CLEAR, 256) == 7
    assert blocks_expected(waits("a", 41, predicted_tokens=20, predicted_tokens_p90=60), CLEAR, 256) == 11
    assert blocks_expected(waits("a", 41, predicted_tokens=20, predicted_tokens_p90=90_000), CLEAR, 256) == 13
    assert blocks_expected(decodes("a", 60, 25, predicted_tokens=20), CLEAR, 256) == 8
