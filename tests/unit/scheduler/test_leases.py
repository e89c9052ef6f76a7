import pytest

from forebay.scheduler.leases import remaining_tokens


@pytest.mark.parametrize(
    ("median", "generated", "limit", "left"),
    [
        (100, 0, 0, 100),
        (100, 99, 0, 1),
        (100, 100, 0, 20),
        (100, 119, 0, 1),
        (100, 120, 0, 20),
        (100, 1_000, 0, 20),
        (100, 0, 60, 60),
        (100, 110, 115, 5),
        (100, 115, 115, 0),
        (0, 0, 0, 1),
        (2, 5, 0, 1),
    ],
)
def test_an_answer_that_outlives_its_median_is_given_a_fifth_more_up_to_its_limit(
    median: int, generated: int, limit: int, left: int
) -> None:
    assert remaining_tokens(median, generated, limit) == left
