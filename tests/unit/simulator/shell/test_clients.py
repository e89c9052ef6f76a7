"""Clients send what the trace says, in its order, and what a closed loop releases."""

from forebay.core.errors import Aborted, ResourceExhausted
from forebay.core.units import PS_PER_US
from forebay.core.values import InferenceRequest
from forebay.simulator.config import ClientConfig
from forebay.simulator.kernel.reference import ReferenceKernel
from forebay.simulator.profiles import profile_of
from forebay.simulator.shell.agenda import NEVER_PS
from forebay.simulator.shell.clients import Clients
from forebay.simulator.shell.context import Context
from forebay.simulator.shell.requests import Requests
from forebay.simulator.workload import Workload
from tests.unit.simulator.shell.worlds import S, workload, world

FULL = ResourceExhausted("come back", retry_after_us=3 * S)


class Gateway:
    """Hears of arrivals."""

    def __init__(self, context: Context) -> None:
        self.heard: list[tuple[int, int, str]] = []
        self._context = context

    def arrive(self, row: int, request: InferenceRequest) -> None:
        self.heard.append((self._context.now_us, row, request.request_id))


def made(load: Workload, attempts_max: int = 1) -> tuple[Context, Clients, Gateway]:
    where = world(clients=ClientConfig(attempts_max=attempts_max))
    context = Context(load, where, ReferenceKernel(len(load)), profile_of)
    clients, gateway = Clients(context, Requests(load, 100)), Gateway(context)
    clients.connect(gateway)
    return context, clients, gateway


def send_all(context: Context, clients: Clients) -> None:
    while clients.next_ps < NEVER_PS:
        context.reach(clients.next_ps)
        clients.send()


def test_rows_come_in_their_order() -> None:
    context, clients, gateway = made(workload([0, 5, 5]))
    send_all(context, clients)
    assert gateway.heard == [(0, 0, "r0"), (5, 1, "r1"), (5, 2, "r2")]
    assert clients.outside_count == 0


def test_a_row_with_parents_comes_after_all_of_them() -> None:
    context, clients, gateway = made(workload([0, 0, 0], parents=[[], [], [0, 1]], think_us=[0, 0, 10]))
    send_all(context, clients)
    context.reach(100 * PS_PER_US)
    clients.finished(1)
    assert clients.next_ps == NEVER_PS
    context.reach(200 * PS_PER_US)
    clients.finished(0)
    send_all(context, clients)
    assert gateway.heard[2:] == [(210, 2, "r2")]


def test_of_a_released_row_and_one_of_the_trace_at_one_time_the_lower_goes_first() -> None:
    context, clients, gateway = made(workload([0, 0, 50], parents=[[], [0], []], think_us=[0, 10, 0]))
    context.reach(clients.next_ps)
    clients.send()
    context.reach(40 * PS_PER_US)
    clients.finished(0)
    send_all(context, clients)
    assert gateway.heard[1:] == [(50, 1, "r1"), (50, 2, "r2")]


def test_a_parent_that_finishes_before_its_child_stands_in_the_trace_sends_it_once() -> None:
    context, clients, gateway = made(workload([0, 900, 900], parents=[[], [0], []]))
    context.reach(clients.next_ps)
    clients.send()
    clients.finished(0)
    send_all(context, clients)
    assert [row for _, row, _ in gateway.heard] == [0, 1, 2]


def test_a_client_comes_back_under_another_id_as_often_as_it_may() -> None:
    context, clients, gateway = made(workload([0]), attempts_max=2)
    send_all(context, clients)
    clients.refused(0, FULL, True)
    assert context.agenda.next_ps == 3 * S * PS_PER_US
    context.reach(context.agenda.next_ps)
    context.agenda.pop()()
    clients.refused(0, FULL, True)
    assert gateway.heard == [(0, 0, "r0"), (3 * S, 0, "r0.2")]
    assert context.rejections == {"RESOURCE_EXHAUSTED": 1}
    assert context.rows.ended_count == 1


def test_nobody_comes_back_after_an_answer_that_failed() -> None:
    context, clients, _ = made(workload([0]), attempts_max=2)
    send_all(context, clients)
    clients.refused(0, Aborted("broken off"), False)
    assert context.agenda.next_ps == NEVER_PS
    assert context.rows.ended_count == 1


def test_all_descendants_of_a_row_that_fails_fail_once() -> None:
    parents = [[], [0], [0, 1], [2], []]
    context, clients, gateway = made(workload([0] * 5, parents=parents))
    send_all(context, clients)
    clients.refused(0, Aborted("broken off"), False)
    assert context.rejections == {"ABORTED": 1, "PARENT_FAILED": 3}
    assert context.rows.ended_count == 4
    assert [row for _, row, _ in gateway.heard] == [0, 4]
    assert clients.outside_count == 0
