"""Who is told of deferred work."""

from forebay.core.pressure import WaitingJob
from forebay.gateway.config import Config
from forebay.gateway.engine import Engine
from forebay.gateway.messages import to_schedule
from forebay.gateway.replicas import Replicas
from forebay.gateway.values import Tell
from forebay.wire.convert_pressure import waiting_job_from_proto

JOBS = tuple(WaitingJob(f"batch_{number}", f"m{number}", "local", 9, 5, 3, 1) for number in range(8))


def linked(*names: str) -> Engine:
    engine = Engine(Config())
    for name in names:
        engine.on_link_up(name, 0)
    return engine


def test_each_replica_hears_of_the_models_that_are_its_own() -> None:
    owners = Replicas()
    owners.add("a")
    owners.add("b")
    told = linked("a", "b").on_backlog(JOBS, 0)
    assert {action.to for action in told if isinstance(action, Tell)} == {"a", "b"}
    for action in told:
        assert isinstance(action, Tell)
        assert action.jobs == tuple(job for job in JOBS if owners.owner(job.model) == action.to)


def test_that_nothing_waits_any_more_is_told_once() -> None:
    engine = linked("a")
    assert engine.on_backlog((), 0) == []
    assert engine.on_backlog(JOBS[:1], 1) == [Tell(JOBS[:1], "a")]
    assert engine.on_backlog((), 2) == [Tell((), "a")]
    assert engine.on_backlog((), 3) == []


def test_without_a_scheduler_nobody_is_told() -> None:
    assert linked().on_backlog(JOBS, 0) == []


def test_the_message_holds_every_job() -> None:
    message = to_schedule(Tell(JOBS, "a"), "g")
    assert tuple(map(waiting_job_from_proto, message.backlog.jobs)) == JOBS
