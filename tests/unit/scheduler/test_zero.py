"""A model without an instance: requests are held while it is started, so many at most, and told how long that takes."""

from forebay.core.scheduling import Placement, Rejected, Retry
from forebay.scheduler.engine import Engine
from tests.unit.scheduler.kit import S, engine, instance, prediction, request


def at_zero(lead_s: int = 60, **settings: object) -> Engine:
    """An engine whose fleet has an instance of another model, and which knows that `m` is started when asked for."""
    on = engine(instance("a", "other"), **settings)
    on.on_models({"m": lead_s * S}, 0)
    return on


def answers(actions: list[object]) -> list[object]:
    return [one for one in actions if isinstance(one, Placement | Rejected | Retry)]


def test_a_request_for_a_model_at_zero_is_held_and_placed_once_an_instance_is_ready() -> None:
    on = at_zero()
    assert not answers(on.on_arrive(request("r1"), prediction(), S))
    assert [one.model for one in on.queues(S) if one.held_count] == ["m"]
    placed = answers(on.on_fleet([instance("b")], 30 * S))
    assert [one.instance_id for one in placed if isinstance(one, Placement)] == ["b/m"]


def test_a_model_that_nobody_starts_is_still_unknown() -> None:
    on = at_zero()
    (no,) = answers(on.on_arrive(request("r1", model="x"), prediction(), S))
    assert isinstance(no, Rejected)
    assert no.reason == "MODEL_UNKNOWN"


def test_beyond_the_most_that_are_held_the_answer_is_when_the_instance_is_expected() -> None:
    on = at_zero(lead_s=60, zero_hold_count_max=2)
    for number in range(2):
        assert not answers(on.on_arrive(request(f"r{number}"), prediction(), (number + 1) * S))
    (no,) = answers(on.on_arrive(request("r2"), prediction(), 21 * S))
    assert isinstance(no, Retry)
    assert (no.reason, no.retry_delay_us) == ("STARTING", 40 * S)
    assert "expected to take requests in 40 s" in no.message
    # With an instance that takes requests the queue is as long as any other.
    on.on_fleet([instance("b", concurrency_max=1)], 30 * S)
    for number in range(3, 7):
        assert not [one for one in on.on_arrive(request(f"r{number}"), prediction(), 31 * S) if isinstance(one, Retry)]


def test_a_hold_that_ends_before_the_instance_is_there_says_how_long_it_still_takes() -> None:
    on = at_zero(lead_s=60, hold_timeout_interactive_normal_s=10.0)
    on.on_arrive(request("r1"), prediction(), S)
    (no,) = answers(on.on_wake(11 * S))
    assert isinstance(no, Retry)
    assert (no.reason, no.retry_delay_us) == ("NO_INSTANCE_READY", 50 * S)


def test_a_start_that_takes_longer_than_expected_is_asked_about_again_soon() -> None:
    on = at_zero(lead_s=5, hold_timeout_interactive_normal_s=10.0)
    on.on_arrive(request("r1"), prediction(), S)
    (no,) = answers(on.on_wake(11 * S))
    assert isinstance(no, Retry)
    assert no.retry_delay_us == 2 * S
