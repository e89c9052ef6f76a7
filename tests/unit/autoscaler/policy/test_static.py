"""The static policy."""

from forebay.autoscaler.policy.autoscaler.static import Static
from tests.unit.autoscaler.policy.kit import view


def test_load_does_not_matter() -> None:
    assert Static().choose(view(10_000.0, initial=3)).instances_wanted == 3


def test_it_needs_nothing() -> None:
    assert Static().needs.history_us == 0
    assert Static().needs.forecast_count == 0
