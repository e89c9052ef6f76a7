from forebay.scheduler.serving_times import REFIT_US, START_COUNT, ServingTimes

S = 1_000_000


def one(times: ServingTimes, count: int, prompt: int, answer: int) -> float:
    return float(times.estimate([count], [prompt], [answer])[0])


def started(seconds: float) -> ServingTimes:
    """Times of which the start is over, by batches that all took equally long."""
    times = ServingTimes()
    for _ in range(START_COUNT):
        times.learn(2, 10, 10, seconds, 0)
    return times


def test_while_nothing_is_known_longer_answers_take_longer() -> None:
    times = ServingTimes()
    assert 0 < one(times, 1, 10, 10) < one(times, 9, 90, 20)


def test_the_estimate_is_the_mean_of_the_five_nearest() -> None:
    times = ServingTimes()
    for number in range(5):
        times.learn(2, 10, 10 + number, 1.0 + number, number * S)
    assert one(times, 2, 10, 12) == 3.0
    assert one(times, 64, 900, 900) == 3.0


def test_the_first_batches_count_at_once_and_later_ones_only_when_missed_at_the_next_fit() -> None:
    times = started(10.0)
    times.learn(2, 10, 10, 10.5, S)
    for number in range(5):
        times.learn(2, 10, 500, 100.0, (2 + number) * S)
    assert (len(times), one(times, 2, 10, 500)) == (START_COUNT, 10.0)
    times.learn(2, 10, 10, 10.0, REFIT_US)
    assert (len(times), one(times, 2, 10, 500)) == (START_COUNT + 5, 100.0)
    assert one(times, 2, 10, 10) == 10.0


def test_an_error_that_is_small_in_seconds_or_in_proportion_teaches_nothing() -> None:
    times = started(20.0)
    times.learn(2, 10, 10, 23.5, S)
    times.learn(2, 10, 10, 18.1, REFIT_US)
    assert len(times) == START_COUNT
