"""Every request is answered exactly once to the client's eye, whatever dies and whenever."""

import json
from collections import Counter, deque

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from forebay.core.errors import Aborted, InvalidArgument, ResourceExhausted
from forebay.core.values import WakeAt
from forebay.gateway.deferred.config import DeferredConfig
from forebay.gateway.deferred.engine import Engine
from forebay.gateway.deferred.lines import error_line, unanswered_line
from forebay.gateway.deferred.store_memory import MemoryStore
from forebay.gateway.deferred.values import (
    ENDING,
    OPEN,
    STATES_OF,
    Action,
    Claim,
    End,
    Forecast,
    GiveUp,
    Job,
    JobStatus,
    Key,
    Line,
    NewRequest,
    Poll,
    Record,
    Renew,
    RequestState,
    Run,
    Stop,
    ToStore,
)

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Without shrinking: a world that does not end takes long to run again and again."""
S = 1_000_000
CLAIM_S = 5.0
CONFIG = DeferredConfig(window_min=2, window_max=4, claim_s=CLAIM_S, attempts_max=3, retry_s=0.5, claims_max=1_000)
JOBS = ("batch_a", "batch_b")
GATEWAYS = ("g0", "g1")
STEP = st.tuples(
    st.sampled_from(
        [
            *("work", "answer") * 5,
            *("store", "lost", "half", "late", "crash", "pass", "pass long") * 2,
            *("wake", "full", "break", "refuse", "link", "cancel"),
        ]
    ),
    st.sampled_from(GATEWAYS),
    st.integers(0, 5),
)


class Gateway:
    """One process: its engine, and what its shell holds in memory. All of it is gone when it dies."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.engine = Engine(CONFIG)
        self.outbox: deque[ToStore] = deque()
        self.running: dict[Key, Run] = {}
        self.given_up: list[GiveUp] = []


class World:
    """Gateways that share a store, a clock and bad luck; counts what the store accepted."""

    def __init__(self, count: int, deadline_s: float) -> None:
        self.now_us = 1_000 * S
        self.store = MemoryStore()
        self.gateways = {name: self.started(name) for name in GATEWAYS}
        self.accepted: Counter[Key] = Counter()
        self.cancelled: set[str] = set()
        self.counts = {name: count for name in JOBS}
        for name in JOBS:
            deadline_us = self.now_us + int(deadline_s * S)
            job = Job(name, "t", "/v1/completions", "", "", int(deadline_s), self.now_us, deadline_us)
            news = [NewRequest(n, f"r{n}", "m", "{}", 5, 10) for n in range(1, count + 1)]
            self.store.keep_job(job, iter(news), "", self.now_us)

    def started(self, name: str) -> Gateway:
        self.store.release(name)
        gateway = Gateway(name)
        gateway.engine.on_link(True, self.now_us)
        return gateway

    def play(self, kind: str, name: str, number: int) -> None:  # noqa: C901 - one case for each event
        gateway = self.gateways[name]
        self.now_us += 50_000
        match kind:
            case "wake":
                self.apply(gateway, gateway.engine.on_wake(self.now_us))
            case "work":
                self.work(gateway)
            case "store" | "lost" | "half":
                self.step_store(gateway, kind)
            case "late":
                # Other gateways do all they can while this one hangs; then it answers.
                self.now_us += int(CLAIM_S * 1.5 * S)
                for other in self.gateways.values():
                    if other is not gateway:
                        self.work(other)
                self.end_run(gateway, "answer", number)
            case "answer" | "full" | "break" | "refuse":
                self.end_run(gateway, kind, number)
            case "crash":
                self.gateways[name] = self.started(name)
            case "link":
                self.apply(gateway, gateway.engine.on_link(number % 2 == 0, self.now_us))
            case "cancel":
                job = self.store.cancel("t", JOBS[0], self.now_us) if number == 0 else None
                if job is not None and job.status is JobStatus.CANCELLING:
                    self.cancelled.add(JOBS[0])
            case "pass":
                self.now_us += S
            case "pass long":
                self.now_us += int(CLAIM_S * 1.5 * S)

    def work(self, gateway: Gateway) -> None:
        """A while of good weather."""
        self.apply(gateway, gateway.engine.on_wake(self.now_us))
        for _ in range(20):
            self.step_store(gateway, "store")

    def end_run(self, gateway: Gateway, kind: str, number: int) -> None:
        keys = sorted(gateway.running)
        if not keys:
            return
        run = gateway.running.pop(keys[number % len(keys)])
        if kind == "answer":
            # Who answered is part of the line: a second answer would show.
            text = json.dumps({"custom_id": run.work.custom_id, "by": [gateway.name, self.now_us]})
            line = Line(run.job.job_id, run.work.number, RequestState.ANSWERED, text)
            self.apply(gateway, gateway.engine.on_answered(line, 12.0, self.now_us))
            return
        error = {
            "full": ResourceExhausted("full", retry_after_us=S),
            "break": Aborted("broken"),
            "refuse": InvalidArgument("refused"),
        }[kind]
        self.apply(gateway, gateway.engine.on_failed(run.work.key, error, self.now_us))

    def step_store(self, gateway: Gateway, kind: str) -> None:
        """The next call of the store works, is lost on the way, or works without the caller hearing of it."""
        if not gateway.outbox:
            return
        action = gateway.outbox.popleft()
        if kind == "lost":
            self.apply(gateway, gateway.engine.on_store_failed(action, self.now_us))
            return
        actions = self.carry_out(gateway, action)
        if kind == "half":
            actions = gateway.engine.on_store_failed(action, self.now_us)
        self.apply(gateway, actions() if callable(actions) else actions)

    def carry_out(self, gateway: Gateway, action: ToStore):  # type: ignore[no-untyped-def]
        engine, store, now_us = gateway.engine, self.store, self.now_us
        match action:
            case Poll():
                jobs, owners = store.open_jobs(now_us)
                return lambda: engine.on_jobs(jobs, owners, now_us)
            case Claim(job_id, count, until_us):
                works = store.claim(job_id, gateway.name, count, now_us, until_us)
                return lambda: engine.on_claimed(action, works, now_us)
            case Renew(keys, until_us):
                held = store.renew(gateway.name, keys, until_us)
                return lambda: engine.on_renewed(keys, held, now_us)
            case Record(lines):
                self.accepted.update(store.record(lines))
                return lambda: engine.on_recorded(lines, now_us)
            case End(job_id):
                self.end_job(job_id)
                return lambda: engine.on_ended(job_id, now_us)

    def end_job(self, job_id: str) -> None:
        status = self.store.finalize(job_id, self.now_us)
        if status in ENDING:
            rest = self.store.pending(job_id, 100)
            self.accepted.update(self.store.record([unanswered_line(job_id, n, name, status) for n, name in rest]))
            self.store.close_job(job_id, self.now_us, self.now_us + 100 * S)

    def apply(self, gateway: Gateway, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Run(_, work):
                    assert work.key not in gateway.running, "one gateway runs a request once at a time"
                    gateway.running[work.key] = action
                case GiveUp(work, error):
                    self.apply(gateway, gateway.engine.on_answered(error_line(work, error), 0.0, self.now_us))
                case Stop(keys):
                    for key in keys:
                        gateway.running.pop(key, None)
                case Forecast() | WakeAt():
                    pass
                case _:
                    gateway.outbox.append(action)
        assert len(gateway.running) <= CONFIG.window_max, "the window holds"

    def settle(self) -> None:
        """Good weather until nothing is open: claims run out, everything works."""
        for _ in range(400):
            if not self.store.open_jobs(self.now_us)[0]:
                return
            self.now_us += S // 5
            for gateway in self.gateways.values():
                self.apply(gateway, gateway.engine.on_link(True, self.now_us))
                self.apply(gateway, gateway.engine.on_wake(self.now_us))
                while gateway.outbox:
                    self.step_store(gateway, "store")
                while gateway.running:
                    self.end_run(gateway, "answer", 0)
                while gateway.outbox:
                    self.step_store(gateway, "store")
        raise AssertionError("the work does not end")

    def check(self) -> None:
        states = [state for of in STATES_OF.values() for state in of]
        for job_id, count in self.counts.items():
            job = self.store.job("t", job_id)
            assert job is not None
            assert job.status not in OPEN
            lines = self.store.lines(job_id, states, 0, 1_000)
            assert [line.number for line in lines] == list(range(1, count + 1)), "one line for each request"
            assert all(self.accepted[line.key] == 1 for line in lines), "each was accepted once"
            assert job.completed_count == sum(line.state is RequestState.ANSWERED for line in lines)
            assert job.completed_count + job.failed_count == count
            assert [json.loads(line.text)["custom_id"] for line in lines] == [f"r{n}" for n in range(1, count + 1)]
            if job_id not in self.cancelled:
                assert not any(line.state is RequestState.CANCELLED for line in lines)
            else:
                assert job.status is JobStatus.CANCELLED


@settings(max_examples=150, deadline=None, phases=PHASES)
@given(steps=st.lists(STEP, max_size=120), count=st.integers(1, 12), deadline_s=st.sampled_from([3.0, 30.0, 100_000.0]))
def test_exactly_one_line_for_each_request(steps: list[tuple[str, str, int]], count: int, deadline_s: float) -> None:
    world = World(count, deadline_s)
    for step in steps:
        world.play(*step)
    world.settle()
    world.check()


@settings(max_examples=30, deadline=None, phases=PHASES)
@given(steps=st.lists(STEP.filter(lambda step: step[0] not in ("refuse", "break", "cancel")), max_size=200))
def test_with_time_enough_every_request_is_answered_however_often_gateways_die(
    steps: list[tuple[str, str, int]],
) -> None:
    world = World(8, 100_000.0)
    for step in steps:
        world.play(*step)
    world.settle()
    world.check()
    for job_id in JOBS:
        job = world.store.job("t", job_id)
        assert job is not None
        assert (job.status, job.completed_count) == (JobStatus.COMPLETED, 8)


def test_who_answers_after_losing_its_claim_changes_nothing() -> None:
    world = World(2, 100_000.0)
    first, second = world.gateways.values()
    world.work(first)
    assert set(first.running) == {("batch_a", 1), ("batch_a", 2)}
    world.now_us += int(CLAIM_S * 1.5 * S)
    world.work(second)
    world.work(second)
    assert set(second.running) == set(first.running)
    for gateway in (second, first):
        while gateway.running:
            world.end_run(gateway, "answer", 0)
        for _ in range(9):
            world.step_store(gateway, "store")
    world.settle()
    world.check()
    lines = world.store.lines("batch_a", [RequestState.ANSWERED], 0, 9)
    assert {json.loads(line.text)["by"][0] for line in lines} == {second.name}
