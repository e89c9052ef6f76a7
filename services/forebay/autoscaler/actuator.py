"""The port through which instances are started and stopped, and the adapters that need no world of their own."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from forebay.core.values import Instance

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Survey:
    """What an actuator found: instances that live, and why others ended. What is in neither cannot be told now."""

    alive: Mapping[str, Instance] = field(default_factory=dict)
    gone: Mapping[str, str] = field(default_factory=dict)


class Actuator(Protocol):
    """Carries out what the engine decides. Calls for different instances may overlap."""

    async def start(self, instance: Instance) -> Instance | None:
        """Begins to start an instance and returns it with its address; None when this actuator does not act.

        Does not wait until it is ready. Raises a ForebayError when it cannot be started; then nothing is left behind.
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


class ByModel:
    """Sends each call to the actuator of the instance's model; models without one go to `otherwise`."""

    def __init__(self, by_model: Mapping[str, Actuator], otherwise: Actuator) -> None:
        self._by_model = by_model
        self._otherwise = otherwise

    async def start(self, instance: Instance) -> Instance | None:
        """As the model's actuator does."""
        return await self._of(instance).start(instance)

    async def retire(self, instance: Instance) -> bool:
        """As the model's actuator does."""
        return await self._of(instance).retire(instance)

    async def stop(self, instance: Instance) -> bool:
        """As the model's actuator does."""
        return await self._of(instance).stop(instance)

    async def survey(self, expected: Collection[Instance]) -> Survey:
        """All surveys together."""
        actuators = list(dict.fromkeys([*self._by_model.values(), self._otherwise]))
        shares = [[instance for instance in expected if self._of(instance) is actuator] for actuator in actuators]
        surveys = await asyncio.gather(*(a.survey(share) for a, share in zip(actuators, shares, strict=True)))
        return Survey(
            alive={key: value for survey in surveys for key, value in survey.alive.items()},
            gone={key: value for survey in surveys for key, value in survey.gone.items()},
        )

    async def close(self) -> None:
        """Closes all."""
        for actuator in dict.fromkeys([*self._by_model.values(), self._otherwise]):
            await actuator.close()

    def _of(self, instance: Instance) -> Actuator:
        return self._by_model.get(instance.model, self._otherwise)
