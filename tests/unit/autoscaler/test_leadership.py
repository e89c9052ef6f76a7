"""Who leads, as one process sees it."""

import pytest

from forebay.autoscaler.leadership import Alone, Leadership
from forebay.autoscaler.store import MemoryStore
from forebay.core.errors import NotLeader, Unavailable
from forebay.core.fleet import Term

S = 1_000_000


class Moody(MemoryStore):
    """A store that is away when the test says so."""

    away = False

    def claim(self, wish: Term, ttl_us: int, now_us: int) -> Term:
        if self.away:
            raise Unavailable("the database does not answer")
        return super().claim(wish, ttl_us, now_us)


class Stage:
    """Leaders over one store and one clock."""

    def __init__(self) -> None:
        self.now_us = 1_000 * S
        self.store = Moody(10)

    def one(self, address: str) -> Leadership:
        return Leadership(self.store, address, 8.0, lambda: self.now_us)


async def test_a_leader_acts_until_a_margin_before_its_term_runs_out() -> None:
    stage = Stage()
    leader = stage.one("a:1")
    assert not leader.may_act()
    await leader.renew()
    stage.now_us += 6 * S - 1
    assert leader.may_act()
    stage.now_us += 1
    assert leader.leads
    assert not leader.may_act()
    await leader.renew()
    assert leader.may_act()


async def test_while_the_store_is_away_the_lead_is_kept_as_long_as_nobody_else_can_have_it() -> None:
    stage = Stage()
    leader = stage.one("a:1")
    await leader.renew()
    token, stage.store.away = leader.token, True
    with pytest.raises(Unavailable):
        await leader.renew()
    stage.now_us += 60 * S
    assert not leader.may_act()
    assert leader.leads
    # Nobody took over: it goes on as it was.
    stage.store.away = False
    await leader.renew()
    assert (leader.token, leader.may_act()) == (token, True)


async def test_one_that_resigns_is_followed_at_once() -> None:
    stage = Stage()
    first, second = stage.one("a:1"), stage.one("b:1")
    await first.renew()
    await second.renew()
    assert not second.leads
    await first.resign()
    assert not first.leads
    await second.renew()
    assert second.may_act()
    assert second.token > 1


async def test_a_restart_at_the_same_address_leads_at_once_with_a_greater_token() -> None:
    stage = Stage()
    first, again = stage.one("a:1"), stage.one("a:1")
    await first.renew()
    await again.renew()
    assert again.token == first.token + 1
    # Should the first one live after all, it does not take the lead back.
    for _ in range(3):
        await first.renew()
        assert not first.leads


async def test_where_nobody_leads_yet_nobody_may_change_anything() -> None:
    with pytest.raises(NotLeader, match="nobody leads yet"):
        Stage().one("a:1").require()


def test_alone_leads_for_ever() -> None:
    alone = Alone()
    alone.require()
    alone.lose()
    assert alone.may_act()
