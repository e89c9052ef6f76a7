"""Makes policies by name, and asks one what it would do now."""

import asyncio
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from forebay.autoscaler.config import SNAPSHOT_S
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.loop import Loop
from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.autoscaler.policy.autoscaler.base import Autoscaler, Needs
from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError, InvalidArgument
from forebay.core.fleet import Advice
from forebay.core.pressure import Pressure
from forebay.core.units import US_PER_S
from forebay.plugins import with_plugins
from forebay.wire.clock import Clock

Forecasting = Callable[[], Awaitable[Forecasts]]
BRIEFLY = "the scheduler was heard for a moment only, as the policy in force does not ask it: rates may be far off"
HEAR_COUNT = 3
"""How often the scheduler is asked where nobody asks it all the time: rates are told by what has grown."""


class Ear(Protocol):
    """Who asks the scheduler what is on its way."""

    async def hear(self, clock: Clock) -> Pressure | None:
        """Asks once; None while nobody has answered."""
        ...


class Advisor:
    """Rehearses decisions.

    `forecaster_of` makes one who knows the forecasts that a policy needs, and `make_ear` one who asks the scheduler,
    `pause_s` from one time to the next, where the policy in force does not care what it says.
    """

    def __init__(
        self, forecaster_of: Callable[[Needs], Forecasting], make_ear: Callable[[], Ear], pause_s: float = SNAPSHOT_S
    ) -> None:
        self._forecaster_of = forecaster_of
        self._make_ear = make_ear
        self._pause_s = pause_s

    async def advise(self, loop: Loop, name: str, parameters: Mapping[str, str]) -> Advice:
        """What a policy (empty: the one in force) would do now.

        Raises InvalidArgument for an unknown policy or parameter, and for parameters without a policy.
        """
        if parameters and not name:
            text = "needs the policy whose parameters they are"
            raise InvalidArgument(f"parameters: {text}", violations={"parameters": text})
        policy = make_policy(name, values_of(parameters)) if name else None
        in_force = loop.engine.needs
        needs = in_force if policy is None else policy.needs
        wants_word = needs.pressure or needs.by_demand
        heard = await self._listen(loop.now_us) if wants_word and not loop.engine.hears(loop.now_us()) else []
        forecasts = await self._forecaster_of(needs)()
        rehearsal, now_us = loop.engine.rehearsal(policy), loop.now_us()
        for pressure, at_us in heard:
            rehearsal.hear(pressure, at_us)
        pools, warnings = await asyncio.to_thread(rehearsal.run, forecasts, now_us)
        lacking = [*lacks(needs, in_force), *([BRIEFLY] if heard else [])]
        return Advice(name or loop.engine.policy, pools, (*warnings, *lacking))

    async def _listen(self, clock: Clock) -> list[tuple[Pressure, int]]:
        """What the scheduler says, a few times."""
        ear, heard = self._make_ear(), []
        for number in range(HEAR_COUNT):
            await asyncio.sleep(self._pause_s if number else 0)
            pressure = await ear.hear(clock)
            heard += [(pressure, clock())] if pressure is not None else []
        return heard


def lacks(needs: Needs, in_force: Needs) -> tuple[str, ...]:
    """What a policy would see if it were in force, and does not see now."""
    if needs.history_us <= in_force.history_us:
        return ()
    wanted, kept = (f"{one.history_us / US_PER_S:g} s" for one in (needs, in_force))
    return (f"it looks back {wanted} and sees {kept}, as the policy in force does: in force it may decide otherwise",)


def make_policy(name: str, parameters: Mapping[str, object]) -> Autoscaler:
    """A policy by its name. Raises ConfigError for an unknown name or parameter."""
    policies = with_plugins("autoscaler", AUTOSCALERS)
    if name not in policies:
        text = f"unknown policy {name!r} in [autoscaler]; known: {', '.join(sorted(policies))}"
        raise ConfigError(text, violations={"policy": text})
    return from_mapping(policies[name], parameters, "autoscaler.parameters")


def values_of(parameters: Mapping[str, str]) -> dict[str, object]:
    """Parameters as a configuration has them; what is no TOML value is taken for a text."""
    return {name: _value(text) for name, text in parameters.items()}


def _value(text: str) -> object:
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if len(found) == 1 else text
