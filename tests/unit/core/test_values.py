"""Values refuse to be wrong, and prompts stay out of what is printed."""

import pytest

from forebay.core.values import InferenceRequest, LengthQuantiles


def test_quantiles_that_decrease_are_refused() -> None:
    with pytest.raises(ValueError, match="must not decrease"):
        LengthQuantiles(5, 4, 9, 9)


def test_a_cap_cuts_every_quantile_and_zero_is_no_cap() -> None:
    quantiles = LengthQuantiles(10, 20, 30, 40)
    assert quantiles.capped(25) == LengthQuantiles(10, 20, 25, 25)
    assert quantiles.capped(0) == quantiles


def test_a_request_does_not_print_its_prompt() -> None:
    assert "secret" not in repr(InferenceRequest("r", "m", 3, prompt_head="secret"))
