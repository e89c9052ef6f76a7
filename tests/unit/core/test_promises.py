"""What is judged by default is what gateway and scheduler promise by default."""

import math

import pytest

from forebay.core.promises import Promise, Promises
from forebay.core.values import SloClass
from forebay.gateway.promises import PromiseConfig
from forebay.scheduler.config import Config


@pytest.mark.parametrize("slo_class", [SloClass.INTERACTIVE_FAST, SloClass.INTERACTIVE_NORMAL])
def test_one_default_holds_for_whoever_promises_and_whoever_judges(slo_class: SloClass) -> None:
    judged, name = Promises().by_class()[slo_class], slo_class.name.lower()
    promised, scheduled = PromiseConfig(), Config()
    assert getattr(promised, f"ttft_{name}_s") == judged.ttft_s == scheduled.due_us(slo_class) / 1e6
    assert getattr(promised, f"tpot_{name}_ms") == judged.tpot_ms == scheduled.itl_slo_us(slo_class) / 1e3


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_a_promise_is_a_finite_number(value: float) -> None:
    with pytest.raises(ValueError, match="ttft_s must not be negative"):
        Promise(ttft_s=value)
