"""One run of an experiment as a job: what it is made of, by which name it is kept, and whether it was done before."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import forebay
from forebay.core.errors import ConfigError
from forebay.simulator import store
from forebay.simulator.config import OracleConfig, PolicyConfig, World
from forebay.simulator.direct import simulate_direct
from forebay.simulator.experiment import Experiment
from forebay.simulator.make_workload import make
from forebay.simulator.oracles.search import best_policy, oracle_hours
from forebay.simulator.parts import Scenario
from forebay.simulator.results import RunResult
from forebay.simulator.run import simulate
from forebay.simulator.summary import Summary, summarize
from forebay.simulator.trace_config import TraceConfig
from forebay.simulator.traces.prompts import ANSWERS_SUFFIX, PROMPTS_SUFFIX
from forebay.simulator.workload import Workload

JOB = "job.json"
ERROR = "error.txt"
_ASIDE = ("cli", "emulator", "train", "wire", "samples")
_ASIDE_FILES = ("runner.py", "sweep.py", "statistics.py", "progress.py", "toml_lines.py", "experiment.py", "arms.py")


@dataclass(frozen=True, slots=True)
class Job:
    """One policy at one load with one seed; `key` names its folder.

    With a `search` the policy is only a name: it is the best fleet that is found. `direct` takes the fast lane. The
    least GPU-hours are told for a share `target` of each model's requests.
    """

    key: str
    trace: TraceConfig
    world: World
    policy: PolicyConfig
    seed: int
    load: float
    search: OracleConfig | None = None
    direct: bool = False
    target: float | None = None

    @property
    def run_count_max(self) -> int:
        """How many runs of the simulator it may take."""
        return 1 if self.search is None else self.search.run_count_max + 1

    def digest(self) -> str:
        """Changes with anything that could change the result: the settings, the trace's content, Forebay's own code."""
        content = [_content_digest(path) for path in (self.trace.path, self.trace.prompts, self.trace.errors)]
        parts = {**dataclasses.asdict(self), "trace_content": content, "code": code_digest()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class Outcome(NamedTuple):
    """What a job gave; `row_count` requests were simulated for it, `notes` are the workload's."""

    result: RunResult
    summary: Summary
    notes: tuple[str, ...]
    row_count: int


@dataclass(frozen=True, slots=True)
class Done:
    """What a finished job took: requests simulated, and seconds of processor time with the preparation of its workload.

    `notes` say what was drawn, dropped or changed in the workload before it was run.
    """

    row_count: int
    cpu_s: float
    notes: tuple[str, ...] = ()


def jobs_of(experiment: Experiment) -> list[Job]:
    """All runs of an experiment; those that share a workload follow each other, and searches come last."""
    runs = [
        Job(
            f"{arm.slug}-load{load:g}-seed{seed}",
            experiment.trace,
            experiment.world_of(index),
            arm.policy,
            seed,
            load,
            direct=experiment.direct,
            target=experiment.oracle.attainment,
        )
        for seed in experiment.seeds
        for load in experiment.loads
        for index, arm in enumerate(experiment.policies)
    ]
    searches = [
        Job(
            f"{arm.slug}-load{load:g}-seed{seed}",
            experiment.trace,
            experiment.world,
            arm.policy,
            seed,
            load,
            oracle,
            target=oracle.attainment,
        )
        for oracle in [experiment.oracle]
        for arm in experiment.arms[len(experiment.policies) :]
        for seed in experiment.seeds
        for load in experiment.loads
    ]
    return [*runs, *searches]


def execute(job: Job, watch: Callable[[int, int], None] | None = None) -> Outcome:
    """Runs a job here and now; `watch` hears how many rows of how many ended.

    Raises ConfigError where a search finds no fleet.
    """
    workload = _workload(job.trace, job.world, job.seed, job.load)
    total = len(workload) * job.run_count_max

    def heard(done: int) -> None:
        if watch is not None:
            watch(done, total)

    policy, before = _searched(job, job.search, workload, heard) if job.search else (job.policy, 0)
    scenario = Scenario(workload, job.world, policy, job.seed, job.load)
    run = simulate_direct if job.direct else simulate
    result = run(scenario, watch=lambda done: heard(before + done))
    summary = summarize(result, job.world.slo, job.world, workload, job.target)
    return Outcome(result, summary, workload.notes, before + len(workload))


def _searched(
    job: Job, search: OracleConfig, workload: Workload, watch: Callable[[int], None]
) -> tuple[PolicyConfig, int]:
    """The policy of the best fleet, and how many rows were simulated to find it."""
    found = oracle_hours(
        workload,
        job.world,
        attainment=search.attainment,
        window_s=search.window_s,
        run_count_max=search.run_count_max,
        seed=job.seed,
        watch=watch,
    )
    if found.achieved_hours is None:
        raise ConfigError(
            f"no fleet within instances_max met the SLO of {100 * search.attainment:g} % of the requests; the most was "
            f"{100 * found.attainment:.1f} %: raise instances_max, or lower attainment in [oracle]"
        )
    policy = best_policy(found.schedule, search.window_s, job.world)
    return dataclasses.replace(policy, name=job.policy.name), found.run_count * len(workload)


@lru_cache(maxsize=1)
def _prepared(key: str) -> list[Workload]:
    """A place for the workload made last: policies that follow each other meet the same one."""
    return []


def _workload(trace: TraceConfig, world: World, seed: int, load: float) -> Workload:
    key = json.dumps([dataclasses.asdict(trace), dataclasses.asdict(world)["groups"], seed, load], sort_keys=True)
    place = _prepared(key)
    if not place:
        place.append(make(trace, world, seed, load))
    return place[0]


def keep(job: Job, digest: str, done: Done, runs: Path, write: Callable[[Path], None]) -> None:
    """Puts a finished job into its folder at once: a reader finds all of it or nothing."""
    folder, fresh = runs / job.key, runs / f".{job.key}.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    write(fresh)
    (fresh / JOB).write_text(json.dumps({"digest": digest, **dataclasses.asdict(done)}) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def keep_error(job: Job, runs: Path, text: str) -> None:
    """Puts the error of a failed job into its folder, in place of any older result."""
    folder = runs / job.key
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / ERROR).write_text(text)


def find_done(job: Job, digest: str, runs: Path) -> Done | None:
    """What the job took when it was done before with the same digest; None where it was not."""
    try:
        kept = json.loads((runs / job.key / JOB).read_text())
        store.read_summary(runs / job.key)
        store.check_tables(runs / job.key)
        done = Done(int(kept["row_count"]), float(kept["cpu_s"]), tuple(kept["notes"]))
        return done if kept["digest"] == digest else None
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        return None


@cache
def _content_digest(path: str) -> str:
    """Of the trace's file, or of all that is in its folder where its reader takes several."""
    found = hashlib.sha256()
    place = Path(path)
    for file in [] if not path else sorted(place.iterdir()) if place.is_dir() else _with_companions(place):
        found.update(file.read_bytes())
    return found.hexdigest()


def _with_companions(file: Path) -> list[Path]:
    """Rates stand in one file and lengths in another of the same service, prompts and their answers likewise."""
    if file.name.endswith(PROMPTS_SUFFIX):
        return [file, file.with_name(file.name.removesuffix(PROMPTS_SUFFIX) + ANSWERS_SUFFIX)]
    service, is_rates, _ = file.name.partition("_rates")
    return [file, *sorted(file.parent.glob(f"{service}_lengths*"))] if is_rates else [file]


@cache
def code_digest() -> str:
    """Of all of Forebay that a result may depend on."""
    root = Path(forebay.__path__[0])
    found = hashlib.sha256()
    for file in sorted(_code(root)):
        found.update(str(file.relative_to(root)).encode())
        found.update(file.read_bytes())
    return found.hexdigest()


def strangeness(code: str) -> str:
    """Why results of this process would not be those of a process whose code has that digest; empty where they are."""
    if code == code_digest():
        return ""
    return "it has other code of Forebay than the sweep began with; run the same command again, on equal versions"


def _code(root: Path) -> Iterator[Path]:
    for file in root.rglob("*"):
        parts = file.relative_to(root).parts
        is_aside = parts[0] in _ASIDE or "report" in parts or (parts[0] == "simulator" and file.name in _ASIDE_FILES)
        if file.suffix in (".py", ".onnx", ".json") and not is_aside:
            yield file
