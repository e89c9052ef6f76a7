"""What must hold after every event of a run, whatever the policies do."""

from collections import Counter
from collections.abc import Callable, Sequence

from forebay.core.scheduling import Placement, Rejected, Retry
from forebay.core.values import Instance, InstanceState
from forebay.simulator.shell.clients import Clients
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.migrating_kernel import MovableKernel
from forebay.simulator.shell.ports import Answers
from forebay.simulator.shell.requests import Requests
from forebay.simulator.shell.rows import FINISHED
from forebay.simulator.shell.scheduling import SchedulerShell
from forebay.simulator.shell.serving import GatewayShell, Run


class Broken(Exception):
    """An invariant does not hold; the message begins with its name."""


class Checks:
    """Stands between scheduler, gateway and loop and looks at everything; `look` is to be called after every event.

    `answers` is whoever the scheduler would answer without it.
    """

    def __init__(
        self,
        context: Context,
        scheduler: SchedulerShell,
        gateway: GatewayShell,
        answers: Answers,
        clients: Clients,
        requests: Requests,
    ) -> None:
        self._context = context
        self._scheduler = scheduler
        self._gateway = gateway
        self._answers = answers
        self._clients = clients
        self._requests = requests
        self._movable = context.kernel if isinstance(context.kernel, MovableKernel) else None
        self._seen_ps = 0
        self._told: Counter[int] = Counter()
        self._invariants: tuple[Callable[[], None], ...] = (
            self._clock_is_monotone,
            self._memory_is_within_bounds,
            self._work_is_where_it_was_put,
            self._tokens_are_conserved,
            self._requests_are_conserved,
        )

    # What passes by

    def placed(self, placement: Placement) -> None:
        """Nothing is placed where nothing may be."""
        known = {one.instance.instance_id: one for one in self._scheduler.engine.instances()}
        chosen = known.get(placement.instance_id)
        if chosen is None or chosen.draining or chosen.instance.state is not InstanceState.READY:
            raise Broken(f"placements go to ready instances: {placement.request_id} goes to {chosen}")
        self._answers.placed(placement)

    def refused(self, answer: Rejected | Retry) -> None:
        """A no passes by."""
        self._answers.refused(answer)

    def fleet(self, instances: Sequence[Instance]) -> None:
        """The fleet passes by."""
        self._answers.fleet(instances)

    def finished(self, rows: Sequence[int]) -> None:
        """Answers are as long as they are meant to be."""
        for row in rows:
            tokens, meant = self._context.kernel.generated_tokens(row), self._requests.served_tokens[row]
            if tokens != meant:
                raise Broken(f"tokens are conserved: row {row} ended after {tokens} of {meant} tokens")
            self._told[self._gateway.runs[row].machine.number] += tokens
        self._gateway.finished(rows)

    # What must hold

    def look(self) -> None:
        """Raises Broken for the first invariant that does not hold."""
        for invariant in self._invariants:
            invariant()

    def _clock_is_monotone(self) -> None:
        now_ps = self._context.now_ps
        if now_ps < self._seen_ps or now_ps != self._context.kernel.now_ps:
            raise Broken(f"the clock is monotone: {now_ps} after {self._seen_ps}, kernel {self._context.kernel.now_ps}")
        self._seen_ps = now_ps

    def _memory_is_within_bounds(self) -> None:
        for machine in self._context.machines:
            if machine.serving:
                view = self._context.kernel.view(machine.number)
                if not 0 <= view.free_block_count <= view.block_count:
                    raise Broken(f"memory is within bounds: {machine.instance_id} has {view.free_block_count} free")

    def _work_is_where_it_was_put(self) -> None:
        on = Counter(run.machine.number for run in self._gateway.runs.values() if self._is_there(run))
        for machine in self._context.machines:
            if not machine.serving:
                if on[machine.number]:
                    raise Broken(f"no work where nothing serves: {on[machine.number]} on {machine.instance_id}")
                continue
            view = self._context.kernel.view(machine.number)
            here = view.running_count + view.waiting_count
            # A request that was cancelled in an iteration stays until its end.
            if on[machine.number] > here or (not view.cancelled_count and on[machine.number] != here):
                raise Broken(
                    f"work is where it was put: {on[machine.number]} on {machine.instance_id}, which has {here}"
                )

    def _is_there(self, run: Run) -> bool:
        """Whether the run's instance has it: one that moves is on none for a moment."""
        movable = self._movable
        return run.is_on and (movable is None or movable.instance_of(run.row) == run.machine.number)

    def _tokens_are_conserved(self) -> None:
        if self._movable is not None:
            self._tokens_are_conserved_in_all()
            return
        growing: Counter[int] = Counter()
        for run in self._gateway.runs.values():
            if run.is_on:
                growing[run.machine.number] += self._context.kernel.generated_tokens(run.row)
        for machine in self._context.machines:
            if not machine.serving:
                continue
            view = self._context.kernel.view(machine.number)
            told = self._told[machine.number] + growing[machine.number]
            if told > view.generated_tokens or (not view.cancelled_count and told != view.generated_tokens):
                raise Broken(f"tokens are conserved: {machine.instance_id} made {view.generated_tokens}, told {told}")

    def _tokens_are_conserved_in_all(self) -> None:
        """Requests that move are told of where they end, and leave behind what they made elsewhere."""
        kernel = self._context.kernel
        made = sum(kernel.view(machine.number).generated_tokens for machine in self._context.machines)
        told = self._told.total()
        told += sum(kernel.generated_tokens(run.row) for run in self._gateway.runs.values() if run.is_on)
        if told > made:
            raise Broken(f"tokens are conserved: all instances made {made}, told {told}")

    def _requests_are_conserved(self) -> None:
        flights, outside = self._gateway.engine.flight_count, self._clients.outside_count
        ended = self._context.rows.ended_count
        count = len(self._context.workload)
        if flights + outside + ended != count:
            raise Broken(f"requests are conserved: {flights} + {outside} outside + {ended} ended of {count}")

    def conclude(self) -> None:
        """Raises Broken where a finished answer has impossible times."""
        rows = self._context.rows
        for row, status in enumerate(rows.status):
            times = (rows.arrival_us[row], rows.first_us[row], rows.finish_us[row])
            if status == FINISHED and not 0 <= times[0] <= times[1] <= times[2]:
                raise Broken(f"times are in order: row {row} has {times}")
