"""The port through which instances are started and stopped, and the adapters that need no world of their own."""

import asyncio
import logging
from collections.abc import Awaitable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from forebay.core.errors import ActuatorTimeout, Unavailable
from forebay.core.values import Instance

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

UNDO_COUNT = 20
UNDO_PAUSE_S = 3.0


@dataclass(frozen=True, slots=True)
class Survey:
    """What an actuator found: instances that live, and why others ended. What is in neither cannot be told now."""

    alive: Mapping[str, Instance] = field(default_factory=dict)
    gone: Mapping[str, str] = field(default_factory=dict)


class Actuator(Protocol):
    """Carries out what the engine decides. Calls for different instances may overlap."""

    async def start(self, instance: Instance) -> Instance | None:
        """Begins to start an instance and returns it with its address; None when this actuator does not act.

        Does not wait until it is ready; what has begun already is left alone. Raises a ForebayError when it cannot be
        started; then nothing is left behind.
        """
        ...

    async def retire(self, instance: Instance) -> bool:
        """Whether the instance may be taken out: placed on no more, then stopped."""
        ...

    async def stop(self, instance: Instance) -> bool:
        """Ends an instance and returns True once it is gone, also when it was gone before; False: does not act.

        Raises a ForebayError when it cannot be ended now.
        """
        ...

    async def survey(self, expected: Collection[Instance]) -> Survey:
        """How the expected instances are, and all others that live by this actuator's doing, also before a restart."""
        ...

    async def close(self) -> None:
        """Lets go of what the actuator holds; the instances live on."""
        ...


class Advisory:
    """Says what would be done and does nothing; what lives and ends by itself is still seen."""

    def __init__(self, inner: Actuator) -> None:
        self._inner = inner
        self._said: set[tuple[str, str]] = set()

    async def start(self, instance: Instance) -> Instance | None:
        """Records the wish."""
        self._say("start", instance.model)
        return None

    async def retire(self, instance: Instance) -> bool:
        """Records the wish."""
        self._say("take out", instance.instance_id)
        return False

    async def stop(self, instance: Instance) -> bool:
        """Records the wish."""
        self._say("stop", instance.instance_id)
        return False

    async def survey(self, expected: Collection[Instance]) -> Survey:
        """What the inner actuator sees."""
        return await self._inner.survey(expected)

    async def close(self) -> None:
        """Closes the inner actuator."""
        await self._inner.close()

    def _say(self, verb: str, subject: str) -> None:
        if (verb, subject) not in self._said:
            self._said.add((verb, subject))
            log.info("advised", extra={"fields": {"advice": f"{verb} {subject}"}})


class Elsewhere:
    """Instances that somebody else starts and ends by what the autoscaler says, such as KEDA: nothing to do here."""

    async def start(self, instance: Instance) -> Instance | None:
        """Nothing: the instance registers, or is found, once it is there."""
        return None

    async def retire(self, instance: Instance) -> bool:
        """Never: whoever started it ends it."""
        return False

    async def stop(self, instance: Instance) -> bool:
        """Nothing."""
        return False

    async def survey(self, expected: Collection[Instance]) -> Survey:
        """Nothing is known here."""
        return Survey()

    async def close(self) -> None:
        """Nothing is held."""


def kind_of(actuator: Actuator) -> str:
    """The name of the actuator's class, without its limits."""
    return kind_of(actuator.inner) if isinstance(actuator, Limited) else type(actuator).__name__


class Limited:
    """An actuator whose calls end in time; each raises ActuatorTimeout when its limit has passed.

    A start that comes to its end after that is undone, so that nothing runs that nobody knows of; until then the same
    instance cannot be started again.
    """

    def __init__(self, inner: Actuator, start_s: float, stop_s: float, survey_s: float) -> None:
        self.inner = inner
        self._start_s = start_s
        self._stop_s = stop_s
        self._survey_s = survey_s
        self._undoing: dict[str, asyncio.Task[None]] = {}

    async def start(self, instance: Instance) -> Instance | None:
        """As the inner actuator, within `start_s`. Raises Unavailable while an earlier start of it is undone."""
        key = instance.instance_id
        if key in self._undoing:
            raise Unavailable(f"an earlier start of {key} took too long and is being undone")
        begun = asyncio.ensure_future(self.inner.start(instance))
        try:
            async with asyncio.timeout(self._start_s):
                return await asyncio.shield(begun)
        except TimeoutError as error:
            self._undo(begun, instance)
            raise ActuatorTimeout(f"{key} was not started within {self._start_s:g} s") from error
        except asyncio.CancelledError:
            begun.cancel()
            raise

    async def retire(self, instance: Instance) -> bool:
        """As the inner actuator, within `stop_s`."""
        return await _within(self.inner.retire(instance), self._stop_s, f"{instance.instance_id} was not taken out")

    async def stop(self, instance: Instance) -> bool:
        """As the inner actuator, within `stop_s`. Raises Unavailable while a late start of it is undone."""
        if instance.instance_id in self._undoing:
            raise Unavailable(f"a late start of {instance.instance_id} is being undone")
        return await self._stopped(instance)

    async def survey(self, expected: Collection[Instance]) -> Survey:
        """As the inner actuator, within `survey_s`; what is being undone is not told of."""
        survey = await _within(self.inner.survey(expected), self._survey_s, "the instances were not seen")
        hidden = self._undoing.keys()
        return Survey(
            alive={key: value for key, value in survey.alive.items() if key not in hidden},
            gone={key: value for key, value in survey.gone.items() if key not in hidden},
        )

    async def close(self) -> None:
        """Closes the inner actuator; what is not undone by now is found at the next start."""
        for task in self._undoing.values():
            task.cancel()
        await asyncio.gather(*self._undoing.values(), return_exceptions=True)
        await self.inner.close()

    def _undo(self, begun: "asyncio.Future[Instance | None]", instance: Instance) -> None:
        task = self._undoing[instance.instance_id] = asyncio.create_task(self._undone(begun, instance))
        task.add_done_callback(lambda _: self._undoing.pop(instance.instance_id, None))

    async def _stopped(self, instance: Instance) -> bool:
        return await _within(self.inner.stop(instance), self._stop_s, f"{instance.instance_id} was not stopped")

    async def _undone(self, begun: "asyncio.Future[Instance | None]", instance: Instance) -> None:
        await asyncio.wait([begun], timeout=self._start_s)
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)
        for _ in range(UNDO_COUNT):
            try:
                if await self._stopped(instance):
                    return
            except Exception as error:
                log.warning("cannot undo a late start", extra={"fields": {"error": str(error)}})
            await asyncio.sleep(UNDO_PAUSE_S)
        log.error("a late start is not undone", extra={"fields": {"instance_id": instance.instance_id}})


async def _within(call: Awaitable[Answer], limit_s: float, text: str) -> Answer:
    try:
        async with asyncio.timeout(limit_s):
            return await call
    except TimeoutError as error:
        raise ActuatorTimeout(f"{text} within {limit_s:g} s") from error


def pool_of(instance: Instance) -> str:
    """The name of the pool that an instance belongs to, as far as the instance tells."""
    return instance.pool or instance.model


class ByPool:
    """Sends each call to the actuator of the instance's pool; pools without one go to `otherwise`."""

    def __init__(self, by_pool: Mapping[str, Actuator], otherwise: Actuator) -> None:
        self._by_pool = by_pool
        self._otherwise = otherwise

    @property
    def kinds(self) -> Mapping[str, str]:
        """The kind of actuator by pool; under the empty name that of all others."""
        return {name: kind_of(actuator) for name, actuator in {**self._by_pool, "": self._otherwise}.items()}

    async def start(self, instance: Instance) -> Instance | None:
        """As the pool's actuator does."""
        return await self._of(instance).start(instance)

    async def retire(self, instance: Instance) -> bool:
        """As the pool's actuator does."""
        return await self._of(instance).retire(instance)

    async def stop(self, instance: Instance) -> bool:
        """As the pool's actuator does."""
        return await self._of(instance).stop(instance)

    async def survey(self, expected: Collection[Instance]) -> Survey:
        """All surveys together; where one fails, nothing is told of its instances."""
        actuators = self._all()
        shares = [[instance for instance in expected if self._of(instance) is actuator] for actuator in actuators]
        surveys = await asyncio.gather(*(_seen(a, share) for a, share in zip(actuators, shares, strict=True)))
        return Survey(
            alive={key: value for survey in surveys for key, value in survey.alive.items()},
            gone={key: value for survey in surveys for key, value in survey.gone.items()},
        )

    async def close(self) -> None:
        """Closes all."""
        for actuator in self._all():
            await actuator.close()

    def _all(self) -> list[Actuator]:
        return list(dict.fromkeys([*self._by_pool.values(), self._otherwise]))

    def _of(self, instance: Instance) -> Actuator:
        return self._by_pool.get(pool_of(instance), self._otherwise)


async def _seen(actuator: Actuator, share: Collection[Instance]) -> Survey:
    try:
        return await actuator.survey(share)
    except Exception:
        log.exception("an actuator cannot look around")
        return Survey()
