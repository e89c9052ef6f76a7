import pytest

from forebay.scheduler.policy.puller.base import UNLIMITED, PullView
from forebay.scheduler.policy.puller.fixed_cap import FixedCap
from forebay.scheduler.policy.puller.unlimited import Unlimited


def test_unlimited_sets_no_bound() -> None:
    assert Unlimited().cap(PullView("a", "m", 4, 4)) == UNLIMITED


@pytest.mark.parametrize(("count", "concurrency_max", "cap"), [(8, 4, 8), (0, 4, 4), (0, 0, 64)])
def test_fixed_cap_takes_its_count_then_the_engine_s_concurrency_then_the_contract_s_default(
    count: int, concurrency_max: int, cap: int
) -> None:
    assert FixedCap(count).cap(PullView("a", "m", concurrency_max, 0)) == cap


def test_fixed_cap_refuses_a_negative_count() -> None:
    with pytest.raises(ValueError, match="count"):
        FixedCap(-1)
