"""The gateway in virtual time: clients on one side, scheduler and instances on the other."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from forebay.core.errors import Aborted, DeadlineExceeded, ForebayError, InvalidArgument
from forebay.core.instance import Batch
from forebay.core.instance.hints import Hints
from forebay.core.scheduling import Placement, Rejected, Retry
from forebay.core.units import PS_PER_S, PS_PER_US, US_PER_MS
from forebay.core.values import InferenceRequest, Instance, Outcome, WakeAt
from forebay.gateway import refusals
from forebay.gateway.config import Config
from forebay.gateway.engine import Engine
from forebay.gateway.values import Action, Ask, Attempt, End, Fail, Renew, Report, RequestStatus, Resume, Withdraw
from forebay.simulator.config import World
from forebay.simulator.shell.clients import Clients
from forebay.simulator.shell.context import Alarm, Context
from forebay.simulator.shell.machines import Machine
from forebay.simulator.shell.network import Network
from forebay.simulator.shell.ports import Fleet
from forebay.simulator.shell.prefixes import Prefixes
from forebay.simulator.shell.requests import Requests
from forebay.simulator.shell.scheduling import SchedulerShell


class Run:
    """One attempt of a request on one engine, from when it is sent until its end is known.

    `is_on`: the engine has it. `tokens` were heard of, the last of them at `changed_ps`; what the engine sends needs
    `back_ps` to the client.
    """

    __slots__ = (
        "back_ps",
        "batch",
        "changed_ps",
        "first_ps",
        "hints",
        "is_on",
        "machine",
        "priority",
        "request_id",
        "row",
        "sent_ps",
        "tokens",
    )

    def __init__(
        self, row: int, placement: Placement, machine: Machine, back_ps: int, sent_ps: int, hints: Hints
    ) -> None:
        self.row = row
        self.request_id = placement.request_id
        self.machine = machine
        self.back_ps = back_ps
        self.sent_ps = sent_ps
        self.priority = placement.triton_priority
        self.batch = Batch(placement.batch_id, max(1, placement.batch_count))
        self.hints = hints
        self.changed_ps = sent_ps
        self.tokens = 0
        self.first_ps = -1
        self.is_on = False


class GatewayShell:
    """The one caller of the gateway's engine; it sends requests to instances and hears of their tokens.

    Tokens are counted when somebody asks: when a lease is renewed, at the end of an answer, and when an instance ends.
    Silence is noticed when leases are renewed, about each second.
    """

    def __init__(
        self, context: Context, engine: Engine, config: Config, requests: Requests, clients: Clients, prefixes: Prefixes
    ) -> None:
        self.engine = context.recorded("gateway", engine)
        self._context = context
        self._kernel = context.kernel
        self._rows = context.rows
        self._requests = requests
        self._clients = clients
        self._prefixes = prefixes
        self._ways_ps = _ways_ps(context.world)
        self._silence = _Silence(config)
        self._alarm = Alarm(context, self._wake)
        self._row_of: dict[str, int] = {}
        self.runs: dict[int, Run] = {}
        self._statuses: dict[str, RequestStatus] = {}
        self._failures: list[Fail] = []

    def connect(self, scheduler: SchedulerShell, fleet: Fleet) -> None:
        """Whom the engine's actions go to."""
        self._fleet = fleet
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Ask: lambda action: scheduler.arrive(action.request),
            Attempt: lambda action: self._attempt(action.request_id, action.placement),
            End: lambda action: scheduler.finish(action.lease_id, action.outcome, action.generated_tokens),
            Renew: lambda action: scheduler.progress(action.lease_id, action.generated_tokens),
            Report: self._report,
            WakeAt: lambda action: self._alarm.set(self._eventful_us(action.at_us)),
            Fail: self._failures.append,
            Withdraw: lambda action: scheduler.withdraw(action.request_id),
            Resume: lambda action: scheduler.resume(action.leases),
        }

    def begin(self) -> None:
        """The run starts: the scheduler's stream is open."""
        now_us = self._context.now_us
        self._apply(self.engine.on_link_up("", now_us))
        self._apply(self.engine.on_wake(now_us))

    # What moves

    def row_of(self, request_id: str) -> int:
        """The row of a request that an engine has; -1 of any other."""
        row = self._row_of.get(request_id, -1)
        return row if row in self.runs and self.runs[row].is_on else -1

    def moved(self, row: int, machine: Machine) -> None:
        """A row goes on at another instance."""
        run = self.runs.get(row)
        if run is not None:
            run.machine = machine
            self._rows.instance[row] = machine.number
            self._apply(self.engine.on_moved(run.request_id, machine.instance_id, self._context.now_us))

    def lost_between(self, row: int) -> None:
        """A row was on its way while both its instances ended."""
        if row in self.runs:
            self.lost([row], "it ended while a request was on its way")

    # What clients and the scheduler say

    def arrive(self, row: int, request: InferenceRequest) -> None:
        """A client sends a request."""
        self._row_of[request.request_id] = row
        self._apply(self.engine.on_arrive(request, self._context.now_us))

    def placed(self, placement: Placement) -> None:
        """A request may go to an instance."""
        self._apply(self.engine.on_placed("", placement, self._context.now_us))

    def refused(self, answer: Rejected | Retry) -> None:
        """A request got a no."""
        self._apply(self.engine.on_refused("", answer.request_id, _error(answer), self._context.now_us))

    def fleet(self, instances: Sequence[Instance]) -> None:
        """The fleet as the scheduler sees it."""
        self._apply(self.engine.on_fleet(instances, self._context.now_us))

    # What instances say

    def finished(self, rows: Sequence[int]) -> None:
        """The instances ended these answers at the clock's time."""
        for row in rows:
            run = self.runs[row]
            run.is_on = False
            run.first_ps = self._kernel.first_ps(row)
            self._rows.gap_us[row] = self._kernel.gap_ps(row) // PS_PER_US
            self._count_evictions(row)
            if run.back_ps:
                self._later(run.back_ps, partial(self._answered, run))
            else:
                self._answered(run)

    def lost(self, rows: Sequence[int], why: str) -> None:
        """An instance ended with these requests on it."""
        for row in rows:
            run = self.runs[row]
            run.is_on = False
            self._count_evictions(row)
            self._prefixes.left(row)
            tokens = self._kernel.generated_tokens(row)
            if tokens:
                self._hear(run, tokens, self._context.now_ps)
            self._later(run.back_ps, partial(self._failed, run, _aborted(run.machine, why)))

    def _count_evictions(self, row: int) -> None:
        self._rows.preemption_count[row] += self._kernel.preemption_count(row)
        self._rows.lost_tokens[row] += self._kernel.lost_tokens(row)

    def _answered(self, run: Run) -> None:
        """The last token reaches the client."""
        if self.runs.get(run.row) is not run:
            return
        del self.runs[run.row]
        row, request_id, now_us = run.row, run.request_id, self._context.now_us
        self._hear(run, self._requests.served_tokens[row], self._context.now_ps)
        outcome = Outcome.LENGTH if self._requests.is_cut(row) else Outcome.STOPPED
        self._rows.first_us[row] = (run.first_ps + run.back_ps) // PS_PER_US
        self._rows.finish_us[row] = now_us
        del self._row_of[request_id]
        self._apply(self.engine.on_finished(request_id, outcome, now_us))
        self._clients.finished(row)

    def _failed(self, run: Run, error: ForebayError) -> None:
        """The client's side hears that the attempt failed."""
        if self.runs.get(run.row) is run:
            del self.runs[run.row]
            self._apply(self.engine.on_failed(run.request_id, error, self._context.now_us))

    def _turned_away(self, request_id: str, error: ForebayError) -> None:
        """Nothing answers where the request was sent."""
        self._apply(self.engine.on_failed(request_id, error, self._context.now_us))

    # Attempts

    def _attempt(self, request_id: str, placement: Placement) -> None:
        row, rows, now_ps = self._row_of[request_id], self._rows, self._context.now_ps
        rows.predicted(row, placement.predicted)
        rows.held_us[row] += placement.held_us
        rows.attempt_count[row] += 1
        machine = self._context.machines.get(placement.instance_id)
        if machine is None:
            # Not at once: the lease that ends makes room for the next one, which would fail inside this call.
            self._later(0, partial(self._turned_away, request_id, _gone(placement.instance_id)))
            return
        rows.instance[row] = machine.number
        there_ps, back_ps = self._ways_ps(self._requests.regions[row], machine.group.region)
        hints = self.engine.hints(request_id, self._context.now_us)
        run = self.runs[row] = Run(row, placement, machine, back_ps, now_ps, hints)
        self._silence.sent(run)
        if there_ps:
            self._later(there_ps, partial(self._reach, run))
        else:
            self._reach(run)

    def _reach(self, run: Run) -> None:
        """The request reaches its instance."""
        if self.runs.get(run.row) is not run:
            return
        row, requests, machine = run.row, self._requests, run.machine
        if not machine.serving:
            self._later(run.back_ps, partial(self._failed, run, _gone(machine.instance_id)))
            return
        hit = self._prefixes.reached(row, machine.number)
        self._rows.hit_tokens[row] = hit
        run.is_on = self._kernel.arrive(
            machine.number,
            row,
            requests.prompt_tokens[row],
            requests.served_tokens[row],
            hit,
            requests.tokens_max[row],
            self._context.now_ps,
            run.priority,
            run.batch,
            run.hints,
        )
        if not run.is_on:
            text = "the model refused the request: it needs more memory than the instance has"
            error = InvalidArgument(text, reason="REFUSED_BY_MODEL")
            self._later(run.back_ps, partial(self._failed, run, error))

    def _later(self, delay_ps: int, call: partial[None]) -> None:
        self._context.agenda.at(self._context.now_ps + delay_ps, call)

    # Time

    def _wake(self) -> None:
        """The engine's tick; before it, it hears how far everything is."""
        now_ps = self._context.now_ps
        silent = self._listen(now_ps)
        silent += [run for run in self._silence.without_first(now_ps) if not self._has_begun(run, now_ps)]
        for run in silent:
            if self.runs.get(run.row) is run:
                self._give_up(run)
        self._apply(self.engine.on_wake(self._context.now_us))

    def _eventful_us(self, at_us: int) -> int:
        """The first tick, from that one on, at which anything can follow from being awake: most do nothing."""
        now_us = self._context.now_us
        tick_us = at_us - now_us
        quiet_us = min(
            self.engine.quiet_until_us(now_us), self._silence.quiet_until_ps(self._context.now_ps) // PS_PER_US
        )
        return now_us + tick_us * max(1, -(-(quiet_us - now_us) // tick_us))

    def _listen(self, now_ps: int) -> list[Run]:
        """Counts how far the answers are whose leases are renewed now; gives those that are silent for too long."""
        silent = []
        for request_id in self.engine.due(now_ps // PS_PER_US):
            run = self.runs.get(self._row_of[request_id])
            if run is None or not run.is_on:
                continue
            tokens = self._kernel.generated_tokens(run.row)
            if tokens != run.tokens:
                self._hear(run, tokens, now_ps)
            if self._silence.is_broken(run, now_ps):
                silent.append(run)
        return silent

    def _has_begun(self, run: Run, now_ps: int) -> bool:
        """Whether the first token has come after all, since somebody asked last."""
        if run.is_on and (tokens := self._kernel.generated_tokens(run.row)):
            self._hear(run, tokens, now_ps)
        return run.tokens > 0 or (not run.is_on and 0 <= run.first_ps <= now_ps - run.back_ps)

    def _hear(self, run: Run, tokens: int, now_ps: int) -> None:
        """Tells the engine of tokens, the first one with its own time; what is still on its way is not heard."""
        if not run.tokens:
            if run.first_ps < 0:
                run.first_ps = self._kernel.first_ps(run.row)
            heard_ps = run.first_ps + run.back_ps
            if heard_ps > now_ps:
                return
            self.engine.on_tokens(run.request_id, 1, self._requests.prompt_tokens[run.row], heard_ps // PS_PER_US)
        run.tokens, run.changed_ps = tokens, now_ps
        self.engine.on_tokens(run.request_id, tokens, self._requests.prompt_tokens[run.row], self._context.now_us)

    def _give_up(self, run: Run) -> None:
        """The instance is silent for too long: the request is taken off it."""
        if run.is_on:
            self._count_evictions(run.row)
            self._kernel.cancel(run.row, self._context.now_ps)
            self._prefixes.left(run.row)
        text = f"instance {run.machine.instance_id} sent nothing for too long; try again"
        self._failed(run, DeadlineExceeded(text))

    # Actions

    def _apply(self, actions: Sequence[Action]) -> None:
        handlers = self._handlers
        for action in actions:
            handlers[type(action)](action)
        if self._failures:
            failures = self._failures[:]
            self._failures.clear()
            for failure in failures:
                self._refuse(failure)

    def _report(self, action: Report) -> None:
        record = action.record
        self._fleet.reported(record)
        if record.status is not RequestStatus.OK:
            self._statuses[record.request.request_id] = record.status

    def _refuse(self, failure: Fail) -> None:
        row = self._row_of.pop(failure.request_id)
        self._clients.refused(row, failure.error, self._statuses.pop(failure.request_id) is RequestStatus.REJECTED)


def _ways_ps(world: World) -> Callable[[str, str], tuple[int, int]]:
    """How long a request takes to an instance, its server's own part included, and what comes back, by regions."""
    network = Network(world.network)
    frontend_ps = round(world.engine.frontend_ms * US_PER_MS) * PS_PER_US

    @cache
    def ways_ps(here: str, there: str) -> tuple[int, int]:
        return network.there_us(here, there) * PS_PER_US + frontend_ps, network.back_us(here, there) * PS_PER_US

    return ways_ps


def _error(answer: Rejected | Retry) -> ForebayError:
    """The error that the gateway makes of a no."""
    if isinstance(answer, Rejected):
        return refusals.rejection(answer.reason, answer.message)
    return refusals.retry(answer.reason, answer.message, answer.retry_delay_us)


def _aborted(machine: Machine, why: str) -> Aborted:
    return Aborted(f"instance {machine.instance_id} failed: {why}; try again")


def _gone(instance_id: str) -> Aborted:
    return Aborted(f"instance {instance_id} failed (UNAVAILABLE): nothing answers there; try again")


class _Silence:
    """When an instance has been silent for too long, as the gateway's configuration says."""

    def __init__(self, config: Config) -> None:
        self._first_ps = round(config.first_token_timeout_s * PS_PER_S)
        self._inter_ps = round(config.inter_token_timeout_s * PS_PER_S)
        self._answer_ps = round(config.answer_timeout_s * PS_PER_S)
        self._sent: deque[Run] = deque()

    def sent(self, run: Run) -> None:
        """An attempt began."""
        self._sent.append(run)

    def quiet_until_ps(self, now_ps: int) -> int:
        """Before then nobody, of those sent now or later neither, has waited too long for a first token."""
        return self._first_ps + (self._sent[0].sent_ps if self._sent else now_ps)

    def without_first(self, now_ps: int) -> list[Run]:
        """Attempts that waited too long for their first token; some may have ended long ago."""
        sent, late = self._sent, []
        while sent and sent[0].sent_ps + self._first_ps <= now_ps:
            run = sent.popleft()
            if not run.tokens:
                late.append(run)
        return late

    def is_broken(self, run: Run, now_ps: int) -> bool:
        """Whether an answer that has not grown was given up by now."""
        is_silent = run.tokens and now_ps - run.changed_ps >= self._inter_ps
        return bool(is_silent) or now_ps - run.sent_ps >= self._answer_ps
