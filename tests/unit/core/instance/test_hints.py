"""What is told about a request beside its lengths, and how it travels."""

import pytest

from forebay.core.instance import EngineRequest
from forebay.core.instance.hints import NO_HINTS, Hints, hints_of

ALL = Hints(predicted_tokens=40, predicted_tokens_p90=90, ttft_slo_us=1_000, tpot_slo_us=50, session_tokens=7)


def test_hints_travel_as_parameters_and_what_is_unknown_does_not() -> None:
    assert ALL.parameters()["forebay_predicted_tokens"] == 40
    assert hints_of(ALL.parameters()) == ALL
    assert NO_HINTS.parameters() == {}
    assert hints_of({}) == NO_HINTS


@pytest.mark.parametrize("value", [-3, "40", 4.5, True, None])
def test_a_parameter_that_is_no_count_is_unknown(value: object) -> None:
    assert hints_of({"forebay_predicted_tokens": value, "forebay_tpot_slo_us": 50}) == Hints(tpot_slo_us=50)


def test_hints_are_not_negative() -> None:
    with pytest.raises(ValueError, match="ttft_slo_us"):
        Hints(ttft_slo_us=-1)


def test_a_request_that_moves_expects_what_is_left() -> None:
    moved = EngineRequest("a", 10, 100, hints=ALL).rest(45, 54)
    assert moved.hints == Hints(1, 45, 1_000, 50, 52)
    assert EngineRequest("a", 10, 100).rest(45, 54).hints is NO_HINTS


def test_promises_pass_sooner_on_a_faster_clock() -> None:
    assert ALL.scaled(2.5) == Hints(40, 90, 2_500, 125, 7)
    assert ALL.scaled(1) is ALL
