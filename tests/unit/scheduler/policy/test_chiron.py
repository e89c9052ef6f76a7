from collections.abc import Callable, Sequence
from typing import Any

import pytest

from forebay.core.values import InstanceRole, SloClass
from forebay.scheduler.policy.puller.base import Measured, PullView
from forebay.scheduler.policy.puller.chiron import Chiron as Puller
from forebay.scheduler.policy.router.base import Hold, RouteView
from forebay.scheduler.policy.router.chiron import Chiron as Router
from tests.unit.scheduler.kit import frozen, route_view, routed

OWN, MIX, BATCH = InstanceRole.INTERACTIVE, InstanceRole.MIXED, InstanceRole.BATCH
DEFERRED = SloClass.DEFERRED


def view(
    roles: Sequence[InstanceRole],
    in_flight: Sequence[int],
    slo_class: SloClass = SloClass.INTERACTIVE_FAST,
    caps: Sequence[int] = (),
    deferred: Sequence[int] = (),
) -> RouteView:
    seen = route_view(in_flight, caps=caps or [8] * len(in_flight))
    counts = frozen(deferred or [0] * len(in_flight))
    return seen._replace(roles=tuple(roles), slo_class=slo_class, deferred_count=counts)


# The router


def test_interactive_requests_prefer_their_own_type_and_overflow_to_mixed_instances() -> None:
    assert routed(Router(), view([BATCH, OWN, MIX], [0, 7, 3])).index == 1
    assert routed(Router(), view([BATCH, OWN, MIX], [0, 8, 3])).index == 2
    assert isinstance(Router().route(view([BATCH, OWN, MIX], [0, 8, 8])), Hold)


def test_deferred_work_takes_spare_room_of_mixed_instances_then_batch_instances_and_else_waits() -> None:
    router = Router(reserve_share=0.25)
    assert routed(router, view([BATCH, OWN, MIX], [0, 0, 5], DEFERRED)).index == 2
    assert routed(router, view([BATCH, OWN, MIX], [0, 0, 6], DEFERRED)).index == 0
    held = router.route(view([BATCH, OWN, MIX], [8, 0, 6], DEFERRED))
    assert isinstance(held, Hold)
    assert held.is_for_class


def test_the_fullest_of_a_type_is_filled_before_the_next_is_opened() -> None:
    assert routed(Router(), view([OWN, OWN, OWN], [0, 3, 2])).index == 1
    assert routed(Router(), view([OWN, OWN, OWN], [0, 3, 3], caps=[8, 8, 4])).index == 2
    assert routed(Router(), view([OWN, OWN, OWN], [0, 8, 3])).index == 2
    assert routed(Router(packs=False), view([OWN, OWN, OWN], [0, 3, 2])).index == 0


def test_spreading_opens_every_instance_and_packing_only_as_many_as_are_needed() -> None:
    for packs, opened in ((True, 2), (False, 6)):
        in_flight = [0] * 6
        for _ in range(12):
            in_flight[routed(Router(packs=packs), view([OWN] * 6, in_flight)).index] += 1
        assert sum(count > 0 for count in in_flight) == opened


def test_a_model_without_the_types_of_a_class_serves_it_all_the_same() -> None:
    assert routed(Router(), view([BATCH, BATCH], [2, 3])).index == 1
    assert routed(Router(), view([OWN, OWN], [2, 3], DEFERRED)).index == 1
    assert routed(Router(), route_view([2, 3])).index == 1


def test_with_eviction_deferred_work_does_not_keep_interactive_requests_out() -> None:
    router = Router(evicts=True)
    mixed = view([MIX, MIX], [8, 8], caps=[16, 16], deferred=[3, 0])
    assert routed(router, mixed).index == 0
    assert isinstance(router.route(mixed._replace(deferred_count=frozen([0, 0]))), Hold)
    assert isinstance(router.route(mixed._replace(slo_class=DEFERRED)), Hold)
    assert routed(router, view([MIX, MIX], [8, 7], DEFERRED, caps=[16, 16])).index == 1


# The puller


def pulled(puller: Puller, cap: int, measured: Measured | None, **changes: Any) -> int:
    return puller.cap(PullView("a", "m", 0, 0, cap=cap)._replace(measured=measured, **changes))


def test_the_first_level_is_the_start_and_without_a_step_nothing_changes() -> None:
    assert pulled(Puller(start_count=12), 0, None) == 12
    assert pulled(Puller(), 37, None) == 37


def test_the_level_shrinks_with_the_larger_pressure_and_grows_where_neither_pushes() -> None:
    # BP = 0.25 / 0.2 = 1.25: half the way from 40 to 32.
    assert pulled(Puller(), 40, Measured(40, 0.25, 0.2, 100.0, 50.0)) == 36
    # BP = 110 / 100: half the way from 40 to 36.4, and down.
    assert pulled(Puller(), 40, Measured(40, 0.1, 0.2, 100.0, 110.0)) == 38
    # BP = 0.8: half the way from 40 to 50.
    assert pulled(Puller(), 40, Measured(40, 0.1, 0.2, 100.0, 80.0)) == 45


def test_a_step_moves_the_level_within_bounds() -> None:
    assert pulled(Puller(smoothing=1.0), 40, Measured(40, 9.0, 0.2)) == 20
    assert pulled(Puller(smoothing=1.0), 40, Measured(40, 0.001, 0.2)) == 80
    assert pulled(Puller(), 1, Measured(1, 9.0, 0.2)) == 1
    assert pulled(Puller(), 1, Measured(1, 0.001, 0.2)) == 2


def test_a_level_that_was_not_reached_says_nothing() -> None:
    """A fall in arrivals is no throughput that falls with the level."""
    assert pulled(Puller(), 40, Measured(39, 0.1, 0.2, 10.0, 500.0)) == 40


def test_nothing_measured_changes_nothing() -> None:
    assert pulled(Puller(), 40, Measured(40)) == 40


def grown(made_at: Callable[[int], float], itl_slo_s: float, kv_count_max: int = 0) -> int:
    """Where the level ends when it is reached at every step, and each is compared as the gauges do."""
    puller, level, made = Puller(), 16, dict[int, float]()
    for _ in range(60):
        made[level] = made_at(level)
        below = [made[known] for known in sorted(made) if known <= 2 / 3 * level]
        seen = Measured(level, 0.3, itl_slo_s, made[level], below[-1] if below else 0.0)
        level = pulled(puller, level, seen, kv_count_max=kv_count_max)
    return level


def test_with_an_endless_promise_and_rising_throughput_the_level_reaches_what_the_cache_holds() -> None:
    assert grown(lambda level: 10.0 * level, 1e9, kv_count_max=300) == 300
    assert pulled(Puller(), 300, None, kv_count_max=300, concurrency_max=256) == 256


def test_with_a_loose_promise_the_level_settles_near_the_knee_of_the_throughput() -> None:
    assert 100 <= grown(lambda level: 10.0 * min(level, 100), 2.0) <= 200


def test_a_tight_promise_ends_growth_before_the_knee() -> None:
    assert grown(lambda level: 10.0 * min(level, 100), 0.1) == 1


def test_with_eviction_a_mixed_instance_has_two_levels_of_room_and_others_one() -> None:
    puller = Puller(evicts=True, start_count=10)
    assert pulled(puller, 0, None) == 20
    assert pulled(puller, 20, Measured(10, 0.4, 0.2)) == 14
    assert pulled(puller, 0, None, role=BATCH) == 10


@pytest.mark.parametrize(
    "wrong", [{"step_s": 0}, {"start_count": 0}, {"smoothing": 0}, {"shrink_min": 1.5}, {"growth_max": 0.5}]
)
def test_the_puller_refuses_what_makes_no_sense(wrong: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        Puller(**wrong)


def test_the_router_refuses_to_reserve_everything() -> None:
    with pytest.raises(ValueError, match="reserve_share"):
        Router(reserve_share=1.0)
