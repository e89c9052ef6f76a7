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

import forebay
from forebay.core.errors import ConfigError
from forebay.simulator import store
from forebay.simulator.config import PolicyConfig, World
from forebay.simulator.experiment import Experiment
from forebay.simulator.parts import Scenario
from forebay.simulator.results import RunResult
from forebay.simulator.run import simulate
from forebay.simulator.summary import Summary, summarize
from forebay.simulator.trace import TraceConfig
from forebay.simulator.workload import Workload
from forebay.simulator.workloads import make

JOB = "job.json"
ERROR = "error.txt"
_ASIDE = ("cli", "emulator", "train", "wire", "samples")
_ASIDE_FILES = ("runner.py", "sweep.py", "statistics.py", "progress.py", "toml_lines.py", "experiment.py", "arms.py")


@dataclass(frozen=True, slots=True)
class Job:
    """One policy at one load with one seed; `key` names its folder."""

    key: str
    trace: TraceConfig
    world: World
    policy: PolicyConfig
    seed: int
    load: float

    def digest(self) -> str:
        """Changes with anything that could change the result: the settings, the trace's content, Forebay's own code."""
        parts = {**dataclasses.asdict(self), "trace_content": _content_digest(self.trace.path), "code": code_digest()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Done:
    """What a finished job took: requests, and seconds of processor time with the preparation of its workload.

    `notes` say what was drawn, dropped or changed in the workload before it was run.
    """

    row_count: int
    cpu_s: float
    notes: tuple[str, ...] = ()


def jobs_of(experiment: Experiment) -> list[Job]:
    """All runs of an experiment; those that share a workload follow each other."""
    return [
        Job(
            f"{arm.slug}-load{load:g}-seed{seed}",
            experiment.trace,
            experiment.world_of(index),
            arm.policy,
            seed,
            load,
        )
        for seed in experiment.seeds
        for load in experiment.loads
        for index, arm in enumerate(experiment.policies)
    ]


def execute(job: Job, watch: Callable[[int, int], None] | None = None) -> tuple[RunResult, Summary, tuple[str, ...]]:
    """Runs a job here and now and gives the workload's notes too; `watch` hears how many rows of how many ended."""
    workload = _workload(job.trace, job.world, job.seed, job.load)
    total = len(workload)
    scenario = Scenario(workload, job.world, job.policy, job.seed, job.load)
    result = simulate(scenario, watch=None if watch is None else lambda done: watch(done, total))
    return result, summarize(result, job.world.slo, job.world, workload), workload.notes


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
    """Rates stand in one file and lengths in another of the same service."""
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
