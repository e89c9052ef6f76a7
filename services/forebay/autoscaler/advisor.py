"""Makes policies by name, and asks one what it would do now."""

import asyncio
import tomllib
from collections.abc import Awaitable, Callable, Mapping

from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.loop import Loop
from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.autoscaler.policy.autoscaler.base import Autoscaler, Needs
from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError, InvalidArgument
from forebay.core.fleet import Advice
from forebay.core.units import US_PER_S
from forebay.plugins import with_plugins

Forecasting = Callable[[], Awaitable[Forecasts]]


class Advisor:
    """Rehearses decisions; `forecaster_of` makes one who knows the forecasts that a policy needs."""

    def __init__(self, forecaster_of: Callable[[Needs], Forecasting]) -> None:
        self._forecaster_of = forecaster_of

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
        forecasts = await self._forecaster_of(needs)()
        rehearsal, now_us = loop.engine.rehearsal(policy), loop.now_us()
        pools, warnings = await asyncio.to_thread(rehearsal.run, forecasts, now_us)
        return Advice(name or loop.engine.policy, pools, (*warnings, *lacks(needs, in_force)))


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
