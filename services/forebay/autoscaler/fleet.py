"""The members of the fleet and the steps of their lives that need more than the member itself."""

from collections.abc import Iterator, Mapping

from forebay.autoscaler.actions import Action, Changed, Retire, Stop
from forebay.autoscaler.life import Life
from forebay.core.errors import NotFound
from forebay.core.fleet import Member
from forebay.core.values import Instance, InstanceState


class Fleet:
    """All that is not stopped, by id; `revision` grows by one with every change."""

    def __init__(self, revision: int, homes: Mapping[str, str]) -> None:
        """`homes` names the pool of each model's instances that name none."""
        self.revision = revision
        self._homes = homes
        self._lives: dict[str, Life] = {}
        # What is asked for again and again between two changes: all in order, and by pool.
        self._ordered: tuple[Life, ...] | None = None
        self._by_pool: dict[str, list[Life]] = {}

    def __iter__(self) -> Iterator[Life]:
        """The lives in the order of their ids; the fleet may change meanwhile."""
        return iter(self._all())

    def get(self, instance_id: str) -> Life | None:
        """One life, if it is there."""
        return self._lives.get(instance_id)

    def known(self, instance_id: str) -> Life:
        """One life. Raises NotFound when it is unknown."""
        life = self._lives.get(instance_id)
        if life is None:
            raise NotFound(f"no instance {instance_id!r} in the fleet; register it first")
        return life

    def pool_of(self, instance: Instance) -> str:
        """The pool that an instance belongs to."""
        return instance.pool or self._homes.get(instance.model, instance.model)

    def of(self, pool: str) -> list[Life]:
        """The lives of one pool, in the order of their ids; only to be read."""
        self._all()
        return self._by_pool.get(pool, [])

    def published(self, model: str = "") -> tuple[Instance, ...]:
        """Instances that can be reached, of one model or of all."""
        found = (life.instance for life in self if life.actuated)
        return tuple(instance for instance in found if model in ("", instance.model))

    def launched(self) -> tuple[Instance, ...]:
        """Instances that the actuator has started and should know of."""
        return tuple(life.instance for life in self if life.launched and life.actuated and not life.stopping)

    def add(self, member: Member, actuated: bool, now_us: int) -> Life:
        """Takes a member in."""
        life = Life(member, actuated, seen_us=now_us, begun_us=now_us, asked_us=now_us)
        self._lives[member.instance.instance_id] = life
        self._ordered = None
        return life

    def restore(self, member: Member, now_us: int) -> None:
        """Takes a member in that was there before."""
        self._lives[member.instance.instance_id] = Life(member, True, seen_us=now_us, restored=True)
        self._ordered = None

    def remove(self, life: Life) -> None:
        """Forgets what never came to be."""
        del self._lives[life.instance.instance_id]
        self._ordered = None

    def changed(self, life: Life) -> list[Action]:
        """Tells the others, unless nobody could reach it yet."""
        # Its pool may be another one now.
        self._ordered = None
        if not life.actuated:
            return []
        self.revision += 1
        return [Changed(life.member)]

    def gone(self, life: Life, reason: str, now_us: int) -> list[Action]:
        """The end of a life."""
        life.enter(InstanceState.STOPPED, reason, now_us)
        self.remove(life)
        return self.changed(life)

    def retire(self, life: Life, reason: str, now_us: int) -> list[Action]:
        """Asks the actuator in force whether it may go; nobody else hears of it before."""
        life.retiring, life.asked_us = reason, now_us
        return [Retire(life.instance.instance_id)]

    def drain(self, life: Life, reason: str, now_us: int) -> list[Action]:
        """Nothing is placed on it any more; what was never ready has nothing to wait for."""
        life.enter(InstanceState.DRAINING, reason, now_us)
        life.empty_us = None
        return [*self.changed(life), *([] if life.member.was_ready else self.leave(life, now_us))]

    def doubt(self, life: Life, reason: str, now_us: int) -> list[Action]:
        """Nobody knows whether it was started: it is stopped, and counts until that is done."""
        life.doubtful, life.retiring = True, ""
        life.enter(InstanceState.DRAINING, reason, now_us)
        return self.leave(life, now_us)

    def leave(self, life: Life, now_us: int) -> list[Action]:
        """It is empty: what we launched is stopped, and others are forgotten."""
        if not life.launched:
            return self.gone(life, "drained and forgotten", now_us)
        if not life.stoppable or life.stopping or now_us < life.retry_us:
            return []
        life.stopping, life.asked_us = True, now_us
        return [Stop(life.instance.instance_id)]

    def _all(self) -> tuple[Life, ...]:
        if self._ordered is None:
            self._ordered = tuple(life for _, life in sorted(self._lives.items()))
            self._by_pool = {}
            for life in self._ordered:
                self._by_pool.setdefault(self.pool_of(life.instance), []).append(life)
        return self._ordered
