"""Distributions of traffic: added up, turned into instances, and priced."""

from statistics import NormalDist

import pytest

from forebay.autoscaler.planning.outlook import Traffic, at, fewest, instances_for, steady, together
from forebay.autoscaler.policy.autoscaler.base import Capability

ABLE = Capability(1_000.0, 100.0, 1_050.0)


def test_work_is_what_the_tightest_rate_says_at_every_quantile() -> None:
    traffic = Traffic((500.0, 1_000.0, 2_000.0, 3_000.0), (100.0, 100.0, 100.0, 100.0))
    assert instances_for(traffic, ABLE) == pytest.approx((1.0, 1_100 / 1_050, 2.0, 3.0))


def test_a_rate_that_is_not_known_does_not_bind() -> None:
    assert instances_for(steady(10_000.0, 50.0), Capability(0.0, 100.0, 0.0)) == (0.5,) * 4


def test_errors_of_two_forecasts_cancel_in_part() -> None:
    one = Traffic((0.0, 10.0, 13.0, 16.0), (0.0, 0.0, 0.0, 0.0))
    both = together([one, Traffic((6.0, 10.0, 14.0, 18.0), (0.0, 0.0, 0.0, 0.0))])
    assert both.prompt == pytest.approx((20 - (100 + 16) ** 0.5, 20.0, 25.0, 30.0)), "3-4-5 and 6-8-10"


def test_a_value_between_quantiles_is_linear_in_standard_deviations_and_never_negative() -> None:
    normal = NormalDist(100.0, 10.0)
    values = tuple(normal.inv_cdf(level) for level in (0.10, 0.50, 0.90, 0.97))
    for z in (-2.0, -0.5, 0.0, 1.0, 1.6, 3.0):
        assert at(values, z) == pytest.approx(100.0 + 10.0 * z)  # type: ignore[arg-type]
    assert at((1.0, 10.0, 30.0, 40.0), -9.0) == 0.0


@pytest.mark.parametrize(
    ("work", "miss_price", "count"),
    [
        ((3.0,) * 4, 20.0, 3),
        ((3.04,) * 4, 20.0, 3),
        ((3.06,) * 4, 20.0, 4),
        ((0.0,) * 4, 20.0, 0),
        # The fourth would be busy for 3 % of its time.
        ((1.0, 2.0, 3.0, 3.5), 20.0, 3),
        ((1.0, 2.0, 3.0, 3.5), 50.0, 4),
        ((1.0, 2.0, 3.0, 3.5), 2.0, 2),
    ],
)
def test_an_instance_is_wanted_where_what_it_saves_is_worth_more(
    work: tuple[float, float, float, float], miss_price: float, count: int
) -> None:
    assert fewest(work, miss_price) == count
