"""A sweep over processes: finished runs are kept, one failure stops no other, and a rerun does only what is missing."""

import dataclasses
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.core.errors import ConfigError
from forebay.core.promises import Promise, Promises
from forebay.simulator import store
from forebay.simulator.config import Group, OracleConfig, PolicyConfig, StartConfig, World
from forebay.simulator.jobs import ERROR, Job
from forebay.simulator.runner import LocalBackend, State, run_jobs
from forebay.simulator.sweep import work_apart
from forebay.simulator.trace_config import TraceConfig

pytest.importorskip("pyarrow", reason="keeping runs needs pyarrow")

TRACE = TraceConfig(generator="poisson", options={"rate_per_s": 2.0, "duration_s": 30.0})
WORLD = World(groups=(Group(model="m", profile="A100-80G/Llama-3-8B/tp1"),))


def job(key: str, router: str = "round_robin", seed: int = 1, rate_per_s: float = 2.0) -> Job:
    trace = dataclasses.replace(TRACE, options={**TRACE.options, "rate_per_s": rate_per_s})
    return Job(key, trace, WORLD, PolicyConfig(key, scheduler={"router": router}), seed, 1.0)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "runs"
    assert not multiprocessing.active_children()


def test_every_job_is_run_once_and_skipped_afterwards(runs: Path) -> None:
    jobs = [job("a"), job("b", "least_requests"), job("c", seed=2)]
    first = run_jobs(jobs, runs, LocalBackend(2))
    assert [(one.job.key, one.error, one.skipped) for one in first] == [(key, "", False) for key in "abc"]
    assert store.read_summary(runs / "a").classes[0].finished_count > 20
    again = run_jobs([*jobs, job("d")], runs, LocalBackend(2))
    assert [one.skipped for one in again] == [True, True, True, False]


def test_changed_settings_are_run_again(runs: Path) -> None:
    run_jobs([job("a")], runs, LocalBackend(1))
    before = (runs / "a" / store.REQUESTS).read_bytes()
    [ended] = run_jobs([job("a", seed=5)], runs, LocalBackend(1))
    assert not ended.skipped
    assert (runs / "a" / store.REQUESTS).read_bytes() != before


def test_a_run_that_was_damaged_is_run_again(runs: Path) -> None:
    run_jobs([job("a")], runs, LocalBackend(1))
    (runs / "a" / store.SUMMARY).write_text("{")
    [ended] = run_jobs([job("a")], runs, LocalBackend(1))
    assert not ended.skipped
    assert store.read_summary(runs / "a").name == "a"


@pytest.mark.parametrize("change", ["lacks", "has"])
def test_a_run_of_another_version_is_run_again(runs: Path, change: str) -> None:
    run_jobs([job("a")], runs, LocalBackend(1))
    kept = json.loads((runs / "a" / store.SUMMARY).read_text())
    if change == "lacks":
        del kept["classes"][0]["lost_tokens"]
    else:
        kept["new_figure"] = 1
    (runs / "a" / store.SUMMARY).write_text(json.dumps(kept))
    with pytest.raises(ConfigError, match="another version"):
        store.read_summary(runs / "a")
    [ended] = run_jobs([job("a")], runs, LocalBackend(1))
    assert not ended.skipped
    assert not ended.error
    assert store.read_summary(runs / "a").name == "a"


def test_a_worker_with_other_code_runs_nothing(runs: Path) -> None:
    [ended] = run_jobs([job("a")], runs, LocalBackend(1, code="of another version"))
    assert "other code of Forebay" in ended.error
    assert work_apart(job("a"), "of another version") == (None, {}, ended.error)
    [ended] = run_jobs([job("a")], runs, LocalBackend(1))
    assert not ended.error


def test_a_search_is_a_job_that_keeps_the_run_of_the_best_fleet(runs: Path) -> None:
    search = OracleConfig(search=True, attainment=0.9, window_s=10.0, run_count_max=4)
    roomy = World(
        groups=(dataclasses.replace(WORLD.groups[0], instances_max=3),), start=StartConfig(provisioning_s=1.0)
    )
    plain = dataclasses.replace(job("best"), world=roomy, search=search)
    impossible = World(groups=WORLD.groups, slo=Promises(interactive_normal=Promise(ttft_s=1e-6)))
    without = dataclasses.replace(plain, key="none", world=impossible)
    ended, failed = run_jobs([plain, without], runs, LocalBackend(1))
    summary = store.read_summary(runs / "best")
    assert summary.name == "best"
    assert (summary.classes[0].attainment or 0.0) >= 0.9
    assert summary.distance.ratio is not None
    assert ended.done is not None
    runs_made, rest = divmod(ended.done.row_count, summary.classes[0].request_count)
    assert rest == 0
    assert 2 <= runs_made <= 5
    assert "raise instances_max" in failed.error
    assert all(one.skipped for one in run_jobs([plain], runs, LocalBackend(1)))


def test_a_failing_job_is_reported_and_the_others_finish(runs: Path) -> None:
    ended = run_jobs([job("good"), job("bad", router="none"), job("fine")], runs, LocalBackend(1))
    assert [bool(one.error) for one in ended] == [False, True, False]
    assert "unknown router 'none'" in ended[1].error
    assert "unknown router 'none'" in (runs / "bad" / ERROR).read_text()
    assert not (runs / "bad" / store.SUMMARY).exists()


def test_a_process_that_dies_takes_only_its_own_job_along(runs: Path) -> None:
    killed: list[int] = []

    def kill_the_first(state: State) -> None:
        if "long" in state.running and state.running["long"][0] > 0 and not killed:
            [child] = multiprocessing.active_children()
            assert child.pid is not None
            killed.append(child.pid)
            os.kill(child.pid, signal.SIGKILL)

    ended = run_jobs([job("long", rate_per_s=500.0), job("next")], runs, LocalBackend(1), kill_the_first)
    assert killed
    assert "process died" in ended[0].error
    assert not ended[1].error


def test_an_interrupt_leaves_what_is_finished_and_no_process(runs: Path) -> None:
    def interrupt(state: State) -> None:
        if state.fresh:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([job("short"), job("long", rate_per_s=500.0)], runs, LocalBackend(1), interrupt)
    assert [folder.name for folder in runs.iterdir() if not folder.name.startswith(".")] == ["short"]


def test_progress_counts_rows_and_estimates_those_to_come(runs: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    run_jobs(
        [job("a"), job("b")], runs, LocalBackend(1), lambda state: seen.append((state.rows_done, state.rows_total))
    )
    assert seen[0] == (0, None)
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_equal_jobs_give_equal_bytes(runs: Path) -> None:
    run_jobs([job("a")], runs / "1", LocalBackend(1))
    run_jobs([job("a")], runs / "2", LocalBackend(1))
    for name in (store.REQUESTS, store.FLEET, store.RUN, store.SUMMARY):
        assert (runs / "1" / "a" / name).read_bytes() == (runs / "2" / "a" / name).read_bytes()
