"""Jobs give the same bytes on Ray as in local processes, and a missing Ray is said plainly."""

import importlib.util
from pathlib import Path

import pytest

from forebay.core.errors import ConfigError
from forebay.simulator import store
from forebay.simulator.config import Group, PolicyConfig, World
from forebay.simulator.jobs import Job
from forebay.simulator.runner import LocalBackend, run_jobs
from forebay.simulator.sweep import RayBackend
from forebay.simulator.trace_config import TraceConfig

pytest.importorskip("pyarrow", reason="keeping runs needs pyarrow")
HAS_RAY = importlib.util.find_spec("ray") is not None


def job(key: str, router: str) -> Job:
    trace = TraceConfig(generator="poisson", options={"rate_per_s": 2.0, "duration_s": 30.0})
    world = World(groups=(Group(model="m", profile="A100-80G/Llama-3-8B/tp1"),))
    return Job(key, trace, world, PolicyConfig(key, scheduler={"router": router}), 1, 1.0)


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed here")
def test_a_missing_ray_is_named_with_how_to_install_it() -> None:
    with pytest.raises(ConfigError, match=r"forebay\[sweep\]"):
        RayBackend("local")


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="needs Ray: pip install 'forebay[sweep]'")
@pytest.mark.filterwarnings("default")
def test_ray_gives_the_bytes_that_local_processes_give(tmp_path: Path) -> None:
    jobs = [job("a", "round_robin"), job("b", "least_requests"), job("bad", "none")]
    run_jobs(jobs, tmp_path / "local", LocalBackend(1))
    ended = run_jobs(jobs, tmp_path / "ray", RayBackend("local", 2))
    assert [bool(one.error) for one in ended] == [False, False, True]
    assert "unknown router 'none'" in ended[2].error
    for name in (store.REQUESTS, store.FLEET, store.RUN, store.SUMMARY):
        for key in ("a", "b"):
            assert (tmp_path / "ray" / key / name).read_bytes() == (tmp_path / "local" / key / name).read_bytes()
