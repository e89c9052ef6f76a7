"""Hands events to the engine and carries out what it asks for: the one place where both meet the world."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from forebay.autoscaler.actions import Action, Alarm, Changed, Decided, Retire, SettingsChanged, Start, Stop
from forebay.autoscaler.actuator import Actuator
from forebay.autoscaler.config import SURVEY_S
from forebay.autoscaler.engine import Engine
from forebay.autoscaler.forecasts import Forecasts
from forebay.autoscaler.life import STARTING
from forebay.autoscaler.prometheus import FleetStats
from forebay.autoscaler.writer import Writer
from forebay.core.errors import ActuatorTimeout, ForebayError
from forebay.core.values import Instance, WakeAt
from forebay.wire.clock import Clock
from forebay.wire.convert_autoscaler import instance_change
from forebay.wire.reporter import Reporter

log = logging.getLogger(__name__)

Forecasting = Callable[[], Awaitable[Forecasts]]


class Waker(Protocol):
    """Who wakes the loop."""

    def set(self, at_us: int) -> None:
        """Calls the loop's `wake` at this time; replaces what was set before."""
        ...

    def cancel(self) -> None:
        """Calls no more."""
        ...


class Leading(Protocol):
    """Who knows whether this process may act on the fleet."""

    @property
    def leader(self) -> str:
        """The address of the one that leads; empty: nobody does."""
        ...

    def may_act(self) -> bool:
        """Whether the actuator may be asked for something now."""
        ...

    def require(self) -> None:
        """Raises NotLeader unless this process leads."""
        ...


class Loop:
    """Serialises all events of one engine, which is another one after each change of the leader.

    `actuators` are those that SetMode chooses from, by mode. `drainable` says whether the scheduler is there to end
    what runs: until then nothing that takes requests is retired. What is decided is kept before an actuator is asked.
    """

    def __init__(
        self,
        engine: Engine,
        actuators: Mapping[str, Actuator],
        writer: Writer,
        reporter: Reporter,
        stats: FleetStats,
        drainable: Callable[[], bool],
        clock: Clock,
        waker: Waker,
        leadership: Leading,
    ) -> None:
        self.engine = engine
        self._actuators = actuators
        self._writer = writer
        self._reporter = reporter
        self._stats = stats
        self._drainable = drainable
        self.leadership = leadership
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._waker = waker
        self.changed = asyncio.Event()
        self._handlers: dict[type, Callable[[Any], None]] = {
            Start: lambda action: self._spawn(self._start(action.instance, self.engine)),
            Retire: lambda action: self._spawn(self._retire(self.engine.instance(action.instance_id))),
            Stop: lambda action: self._spawn(self._stop(self.engine.instance(action.instance_id), self.engine)),
            Changed: self._publish,
            Decided: self._record,
            SettingsChanged: lambda _: None,
            Alarm: self._raise_alarm,
            WakeAt: lambda action: self._waker.set(action.at_us),
        }

    def now_us(self) -> int:
        """The time that events get."""
        return self._clock()

    def apply(self, actions: Sequence[Action]) -> None:
        """Carries out actions; what takes long goes on in the background."""
        for action in actions:
            self._handlers[type(action)](action)
        members = [action.member for action in actions if isinstance(action, Changed)]
        decisions = [action.decision for action in actions if isinstance(action, Decided)]
        if members or decisions or any(isinstance(action, SettingsChanged | Start) for action in actions):
            self._writer.keep(self.engine.settings, members, decisions)
            self._show()

    def take(self, engine: Engine) -> None:
        """Goes on with another engine, made from what is kept: what is under way for the old one ends without it."""
        self._waker.cancel()
        self._writer.forget()
        is_other = (engine.revision, engine.settings) != (self.engine.revision, self.engine.settings)
        self.engine = engine
        if is_other:
            self._show()

    async def restore(self) -> None:
        """Brings the engine's memory in line with what lives; to be called whenever this process begins to lead."""
        survey = await self._actuator().survey(self.engine.launched())
        for _, instance in sorted(survey.alive.items()):
            self.apply(self.engine.on_orphan(instance, self._clock()))
        self.apply(self.engine.on_survey(survey.gone, self._clock()))

    async def tick(self, interval_s: float, forecasts: Forecasting) -> None:
        """Lets the engine think, for ever; a policy that fails leaves the fleet as it is."""
        while True:
            try:
                await self.think(forecasts)
            except Exception:
                log.exception("the policy failed; the last plan holds")
            await asyncio.sleep(interval_s)

    async def think(self, forecasts: Forecasting) -> None:
        """Lets the engine think once."""
        self.apply(self.engine.on_tick(await forecasts(), self._clock()))

    async def survey(self) -> None:
        """Looks around for what ended by itself, for ever."""
        while True:
            await asyncio.sleep(SURVEY_S)
            await self.look_around()

    async def look_around(self) -> None:
        """Tells the engine what ended by itself, and what lives and nobody knew; an actuator that fails says nothing.

        Such a stray was started by an autoscaler that lost the lead while its actuator was at work.
        """
        engine, known = self.engine, self.engine.ids
        try:
            survey = await self._actuator().survey(engine.launched())
        except Exception:
            log.exception("the actuator cannot look around")
            return
        if engine is not self.engine:
            return
        for instance_id, instance in sorted(survey.alive.items()):
            # One that is not known any more was stopped meanwhile.
            if instance_id not in known:
                self.apply(engine.on_orphan(instance, self._clock()))
        self.apply(engine.on_survey(survey.gone, self._clock()))

    def wake(self) -> None:
        """The time has come that the engine wanted to be woken at."""
        self.apply(self.engine.on_wake(self._clock()))

    async def close(self) -> None:
        """Stops waking up, lets what was begun end, and keeps everything; instances live on."""
        self._waker.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._writer.flush()
        await self._reporter.flush()

    def _actuator(self) -> Actuator:
        return self._actuators[self.engine.mode]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _show(self) -> None:
        self._stats.show(self.engine.models())
        self.changed.set()
        self.changed = asyncio.Event()

    async def _may_act(self, engine: Engine) -> bool:
        """Whether the actuator may be asked for what this engine decided, once that is kept.

        Whoever takes over then knows of it, and a store that refuses says that somebody has.
        """
        return await self._writer.flush() and engine is self.engine and self.leadership.may_act()

    async def _start(self, instance: Instance, engine: Engine) -> None:
        try:
            placed = await self._actuator().start(instance) if await self._may_act(engine) else None
        except ActuatorTimeout as error:
            log.error(error.message)
            self.apply(self.engine.on_actuator_silent(instance.instance_id, self._clock()))
        except Exception as error:
            text = _text(error)
            self.apply(self.engine.on_actuator_failed(instance.instance_id, text, self._clock()))
        else:
            self.apply(self.engine.on_actuated(instance.instance_id, placed, self._clock()))

    async def _retire(self, instance: Instance) -> None:
        possible = instance.state in STARTING or self._drainable()
        accepted = possible and await self._asked(self._actuator().retire(instance), instance)
        self.apply(self.engine.on_retired(instance.instance_id, accepted, self._clock()))

    async def _stop(self, instance: Instance, engine: Engine) -> None:
        done = await self._may_act(engine) and await self._asked(self._actuator().stop(instance), instance)
        self.apply(self.engine.on_stopped(instance.instance_id, done, self._clock()))

    async def _asked(self, call: Awaitable[bool], instance: Instance) -> bool:
        try:
            return await call
        except Exception as error:
            fields = {"instance_id": instance.instance_id, "error": _text(error)}
            log.error("the actuator failed", extra={"fields": fields})
            return False

    def _publish(self, action: Changed) -> None:
        instance = action.member.instance
        self._reporter.report(instance_change(uuid.uuid4().hex, instance))
        fields = {"instance_id": instance.instance_id, "state": instance.state.name, "reason": instance.state_reason}
        log.info("instance changed", extra={"fields": fields})

    def _record(self, action: Decided) -> None:
        decision = action.decision
        self._stats.count(decision)
        change = f"{decision.instances_before}->{decision.instances_after}"
        fields = {"model": decision.model, "instances": change, "mode": decision.mode, "reason": decision.reason}
        log.info("decided", extra={"fields": fields})

    def _raise_alarm(self, action: Alarm) -> None:
        self._stats.alarm()
        log.error(action.text)


def _text(error: Exception) -> str:
    if isinstance(error, ForebayError):
        return error.message
    if not isinstance(error, TimeoutError):
        log.error("unexpected error of an actuator", exc_info=error)
    return f"{type(error).__name__}: {error}"
