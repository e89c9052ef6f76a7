"""`forebay simulate` and `forebay compare` from the outside: results, reruns, failures and interrupts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="keeping runs needs pyarrow")
pytest.importorskip("matplotlib", reason="the report needs matplotlib")

ROOT = Path(__file__).parents[2]
EXPERIMENT = """\
seeds = [1, 2]
[trace]
generator = "poisson"
options = { rate_per_s = RATE, duration_s = 30.0 }
[[groups]]
model = "m"
profile = "H100/Llama-3-8B/tp1"
instances_min = 2
instances_initial = 2
instances_max = 2
[[policies]]
name = "round robin"
[policies.scheduler]
router = "round_robin"
[[policies]]
name = "least requests"
[policies.scheduler]
router = "least_requests"
"""
BROKEN = """\
[[policies]]
name = "broken"
[policies.predictor]
length = "onnx_quantile"
models_folder = "/nowhere"
"""


def forebay(*arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "forebay.cli", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'services'}:{ROOT / 'clients/python'}"}


def written(folder: Path, more: str = "", rate: float = 3.0) -> str:
    path = folder / "small.toml"
    path.write_text(EXPERIMENT.replace("RATE", str(rate)) + more)
    return str(path)


def test_a_comparison_leaves_a_report_and_a_rerun_runs_nothing(tmp_path: Path) -> None:
    out, plot = tmp_path / "out", tmp_path / "plot.svg"
    arguments = ["compare", "--experiment", written(tmp_path), "--output", str(out), "--jobs", "2"]
    first = forebay(*arguments, "--plot", f"pareto={plot}")
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("done ") == 4
    assert "least requests" in first.stdout
    assert max(len(line) for line in first.stdout.splitlines()[:-1]) <= 100
    page = (out / "report.html").read_text()
    assert "forebay compare --experiment" in page
    assert plot.read_text().startswith("<svg")
    again = forebay(*arguments, "--json")
    assert "done " not in again.stderr
    found = json.loads(again.stdout)
    assert found == {**json.loads((out / "results.json").read_text())}
    assert {one["policy"] for one in found["estimates"]} == {"round robin", "least requests"}


def test_a_failing_policy_is_named_and_the_others_are_compared(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = forebay("compare", "--experiment", written(tmp_path, BROKEN), "--output", str(out), "--seeds", "1")
    assert done.returncode == 1
    assert "1 of 3 runs failed" in done.stderr
    assert "round robin" in done.stdout
    assert "broken-load1-seed1" in (out / "report.html").read_text()
    assert "Traceback" not in done.stderr


def test_markdown_tables_can_be_pasted(tmp_path: Path) -> None:
    arguments = ["--experiment", written(tmp_path), "--output", str(tmp_path / "out"), "--seeds", "1", "--markdown"]
    done = forebay("compare", *arguments)
    assert "| load | policy |" in done.stdout
    assert "|---|--:" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_every_process_and_keeps_what_is_finished(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    more = '[[policies]]\nname = "last"\n'
    command = ["compare", "--experiment", written(tmp_path, more, rate=100.0), "--output", str(out), "--jobs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "forebay.cli", *command],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    try:
        deadline_s = time.monotonic() + 90
        while not list(out.glob("runs/*/job.json")) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "goes on from there" in errors
    assert "Traceback" not in errors
    assert list(out.glob("runs/*/job.json"))
    with pytest.raises(ProcessLookupError):
        wait_for_group_to_end(process.pid)


def heed_interrupts() -> None:
    """What a shell starts in the background ignores interrupts, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_group_to_end(group: int) -> None:
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        os.killpg(group, 0)
        time.sleep(0.05)


def test_one_run_prints_its_figures_and_keeps_its_rows(tmp_path: Path) -> None:
    arguments = ["simulate", "--limit", "200", "--policy", "router=power_of_two,router.seed=3", "--output"]
    done = forebay(*arguments, str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    for part in ("SLO met", "TTFT p99", "GPU-hours"):
        assert part in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()[:-1]) <= 100
    assert (tmp_path / "run" / "requests.parquet").exists()
    as_json = json.loads(forebay(*arguments[:-1], "--json").stdout)
    assert as_json["classes"][0]["request_count"] == 200
    assert as_json["classes"][0]["finished_count"] == 200
