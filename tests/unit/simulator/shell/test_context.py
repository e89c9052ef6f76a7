"""The common ground of a run: time, timed calls, random streams, the journal."""

from forebay.core.units import PS_PER_US
from forebay.core.values import WakeAt
from forebay.simulator.kernel.reference import ReferenceKernel
from forebay.simulator.profiles import profile_of
from forebay.simulator.shell.agenda import NEVER_PS, Agenda
from forebay.simulator.shell.context import Alarm, Context
from forebay.simulator.shell.journal import Entry, Journal
from tests.unit.simulator.shell.worlds import S, workload, world


def made(seed: int = 0, journal: Journal | None = None) -> Context:
    return Context(workload([0]), world(), ReferenceKernel(1), profile_of, seed, journal)


def pass_until(context: Context, until_us: int) -> None:
    while context.agenda.next_ps <= until_us * PS_PER_US:
        context.reach(context.agenda.next_ps)
        context.agenda.pop()()


def test_calls_come_by_time_and_at_one_time_in_the_order_of_entry() -> None:
    agenda, heard = Agenda(), list[str]()
    for at_ps, name in ((5, "b"), (3, "a"), (5, "c")):
        agenda.at(at_ps, lambda name=name: heard.append(name))  # type: ignore[misc]
    while agenda.next_ps < NEVER_PS:
        agenda.pop()()
    assert heard == ["a", "b", "c"]


def test_a_call_for_a_time_that_has_passed_comes_now() -> None:
    context = made()
    context.reach(7 * PS_PER_US + 3)
    context.at_us(5, lambda: None)
    assert context.agenda.next_ps == 7 * PS_PER_US + 3


def test_engines_hear_whole_microseconds() -> None:
    context = made()
    context.reach(7 * PS_PER_US + 999_999)
    assert context.now_us == 7


def test_what_repeats_begins_now() -> None:
    context, heard = made(), list[int]()
    context.every_s(2.0, lambda: heard.append(context.now_us))
    pass_until(context, 5 * S)
    assert heard == [0, 2 * S, 4 * S]


def test_an_alarm_rings_at_the_time_that_was_set_last_and_once() -> None:
    context, heard = made(), list[int]()
    alarm = Alarm(context, lambda: heard.append(context.now_us))
    for at_us in (5, 9, 7):
        alarm.set(at_us)
    pass_until(context, 100)
    assert heard == [7]


def test_a_stream_depends_on_its_name_and_the_seed_alone() -> None:
    drawn = [made(seed).rng(name).integers(2**60) for seed, name in ((1, "a"), (1, "a"), (1, "b"), (2, "a"))]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


class Engine:
    """Answers."""

    count = 3

    def on_ring(self, number: int, now_us: int) -> list[WakeAt]:
        return [WakeAt(now_us + number)]

    def ask(self) -> int:
        return 4


def test_a_journal_keeps_what_an_engine_is_told_and_answers() -> None:
    journal = Journal()
    context = made(journal=journal)
    engine = context.recorded("part", Engine())
    context.reach(2 * PS_PER_US)
    assert engine.on_ring(5, 2) == [WakeAt(7)]
    assert (engine.ask(), engine.count) == (4, 3)
    assert journal.entries == [Entry("part", "on_ring", (5, 2), 2, (WakeAt(7),))]


def test_without_a_journal_the_engine_stands_for_itself() -> None:
    engine = Engine()
    assert made().recorded("part", engine) is engine
