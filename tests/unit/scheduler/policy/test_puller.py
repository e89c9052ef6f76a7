import pytest

from forebay.scheduler.policy.puller.base import UNLIMITED, PullView
from forebay.scheduler.policy.puller.ccb import Ccb
from forebay.scheduler.policy.puller.fixed_cap import FixedCap
from forebay.scheduler.policy.puller.unlimited import Unlimited
from tests.unit.scheduler.kit import engine, instance


def test_unlimited_sets_no_bound() -> None:
    assert Unlimited().cap(PullView("a", "m", 4, 4)) == UNLIMITED


@pytest.mark.parametrize(("count", "concurrency_max", "cap"), [(8, 4, 8), (0, 4, 4), (0, 0, 64)])
def test_fixed_cap_takes_its_count_then_the_engine_s_concurrency_then_the_contract_s_default(
    count: int, concurrency_max: int, cap: int
) -> None:
    assert FixedCap(count).cap(PullView("a", "m", concurrency_max, 0)) == cap


@pytest.mark.parametrize(
    ("concurrency_max", "context_count_max", "cap"), [(64, 7, 7), (4, 7, 4), (0, 7, 7), (64, 0, 64), (0, 0, 64)]
)
def test_ccb_admits_as_many_as_fit_at_their_longest(concurrency_max: int, context_count_max: int, cap: int) -> None:
    view = PullView("a", "m", concurrency_max, 0, context_count_max=context_count_max)
    assert Ccb().cap(view) == cap


def test_ccb_is_told_how_many_contexts_the_cache_holds() -> None:
    on = engine(instance("a", kv_tokens_max=14_336, context_tokens_max=2_048, concurrency_max=64), puller="ccb")
    assert on.instances()[0].concurrency_cap == 7


def test_fixed_cap_refuses_a_negative_count() -> None:
    with pytest.raises(ValueError, match="count"):
        FixedCap(-1)
