"""The instance model on a wall clock, sans I/O: requests and wake-ups in, tokens and the next wake-up out."""

from dataclasses import dataclass, replace
from typing import TypeAlias

from forebay.core.instance import EngineRequest, EngineView, InstanceModel
from forebay.core.units import PS_PER_US
from forebay.core.values import WakeAt


@dataclass(frozen=True, slots=True)
class Tokens:
    """Action: tell the client of `count` further tokens, the last of them being number `token_count` of the answer."""

    request_id: str
    count: int
    token_count: int
    finished: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """Action: tell the client that its request can never run here, and why."""

    request_id: str
    reason: str


Action: TypeAlias = Tokens | Refused | WakeAt


class EmulatedEngine:
    """One instance model whose picoseconds run `time_scale` times as fast as the caller's microseconds.

    Every boundary has an absolute deadline, start + virtual time / scale, so a late wake-up delays no later token.
    Wake-ups are at least `coalesce_us` apart; the tokens of one request in between become one action. A clock that
    steps back stands still until it has caught up.
    """

    def __init__(self, model: InstanceModel, time_scale: float, coalesce_us: int, start_us: int) -> None:
        self._model = model
        self._profile = model.profile
        self._ps_per_us = max(1, round(PS_PER_US * time_scale))
        self._coalesce_us = coalesce_us
        self._start_us = self._now_us = start_us
        self._emitted_us = start_us - coalesce_us

    def on_request(self, request: EngineRequest, now_us: int) -> list[Action]:
        """A request arrives."""
        now_ps, actions = self._advance(now_us)
        request = replace(request, hints=request.hints.scaled(self._ps_per_us / PS_PER_US))
        if not self._model.arrive(request, now_ps):
            actions.append(Refused(request.request_id, self._model.refusal(request) or "cannot run"))
        return self._with_wake(actions)

    def on_cancel(self, request_id: str, now_us: int) -> list[Action]:
        """The client of a request is gone; its memory comes back at the next boundary."""
        now_ps, actions = self._advance(now_us)
        self._model.cancel(request_id, now_ps)
        return self._with_wake(actions)

    def on_wake(self, now_us: int) -> list[Action]:
        """The time of a WakeAt has come, or passed."""
        return self._with_wake(self._advance(now_us)[1])

    def on_slow(self, factor: float, now_us: int) -> list[Action]:
        """Every iteration takes `factor` times as long as the profile says, from the next one on."""
        _, actions = self._advance(now_us)
        self._model.retime(self._profile if factor == 1 else self._profile.slowed(factor))
        return self._with_wake(actions)

    def on_hang(self, hanging: bool, now_us: int) -> list[Action]:
        """Progress stops, or goes on where it stopped."""
        now_ps, actions = self._advance(now_us)
        if hanging:
            self._model.hang(now_ps)
        else:
            self._model.resume(now_ps)
        return self._with_wake(actions)

    def view(self) -> EngineView:
        """The instance as of the last event."""
        return self._model.view()

    def wall_us(self, duration_ps: int) -> int:
        """An emulated duration on the caller's clock."""
        return duration_ps // self._ps_per_us

    def _advance(self, now_us: int) -> tuple[int, list[Action]]:
        self._now_us = max(now_us, self._now_us)
        now_ps = (self._now_us - self._start_us) * self._ps_per_us
        latest: dict[str, Tokens] = {}
        for event in self._model.advance(now_ps):
            known = latest.get(event.request_id)
            count = 1 if known is None else known.count + 1
            latest[event.request_id] = Tokens(event.request_id, count, event.token_count, event.finished)
        if latest:
            self._emitted_us = self._now_us
        return now_ps, list(latest.values())

    def _with_wake(self, actions: list[Action]) -> list[Action]:
        next_ps = self._model.next_ps
        if next_ps is not None:
            boundary_us = self._start_us - (-next_ps // self._ps_per_us)
            actions.append(WakeAt(max(boundary_us, self._emitted_us + self._coalesce_us)))
        return actions
