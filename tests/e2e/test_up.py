"""A newcomer's way: start, load, look, ask why, check, stop; everything as processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from forebay.cli.processes import answers, marked
from forebay.cli.state import addresses_from, run_file
from tests.e2e.running_stack import MODEL, RunningStack, environment, free_port_base, start


def test_the_gateway_answers_an_openai_request(stack: RunningStack) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
    answer = httpx.post(f"{stack.addresses.http_url}/v1/chat/completions", json=body, timeout=30)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 5
    assert answer.headers["x-forebay-decision-id"]


def test_a_load_is_answered_measured_and_explained(stack: RunningStack, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    output = stack.cli("load", "--duration", "5", "--rate-scale", "3", "--max-tokens", "40", "--json", str(figures))
    result = json.loads(figures.read_text())
    assert result["request_count"] == result["ok_count"] > 5
    assert result["failures"] == {}
    assert result["ttft_s"]["p50"] > 0
    assert result["length"]["count"] + result["length"]["cut_count"] == result["ok_count"]
    assert result["fleet"][-1]["models"][MODEL]["ready"] >= 2
    assert "forebay explain" in output
    explained = stack.cli("explain", result["slowest"][0]["decision_id"])
    assert "Candidates, best first" in explained
    assert "least_predicted_tokens" in explained


def test_a_closed_loop_ends_at_its_limit(stack: RunningStack) -> None:
    result = json.loads(stack.cli("load", "--closed-loop", "3", "--limit", "9", "--max-tokens", "20", "--json", "-"))
    assert (result["request_count"], result["ok_count"]) == (9, 9)


def test_the_status_shows_every_service_up_and_the_fleet_ready(stack: RunningStack) -> None:
    status = json.loads(stack.cli("status", "--json"))
    assert set(status["services"].values()) == {"up"}
    assert [model["ready_count"] for model in status["fleet"]["models"]] == [2]
    assert len(status["instances"]) == 2
    page = stack.cli("status")
    assert "Last scaling decisions" in page
    assert max(len(line) for line in page.splitlines()) <= 100


def test_top_prints_one_frame_where_no_terminal_is(stack: RunningStack) -> None:
    page = stack.cli("top")
    assert "away" not in page
    assert page.count(f"/{MODEL}") == 2
    assert max(len(line) for line in page.splitlines()) <= 100
    frame = json.loads(stack.cli("top", "--once", "--json"))
    assert set(frame["services"].values()) == {"up"}
    assert len(frame["anticipated"]) == 2


def test_the_fleet_shows_each_pool_and_why(stack: RunningStack) -> None:
    fleet = json.loads(stack.cli("fleet", "--json"))
    assert [(one["model"], one["ready_count"]) for one in fleet["models"]] == [(MODEL, 2)]
    assert fleet["models"][0]["reason"]
    assert fleet["leader"] == stack.addresses.grpc["autoscaler"]
    page = stack.cli("fleet", "--instances", "--model", MODEL)
    assert all(part in page for part in (MODEL, fleet["policy"], "Why", "ready", "127.0.0.1"))
    assert max(len(line) for line in page.splitlines()) <= 100
    assert "see those that are" in stack.cli("fleet", "--model", "nosuch", status=1)


def test_advice_of_the_policy_in_force_and_of_another_changes_nothing(stack: RunningStack) -> None:
    before = json.loads(stack.cli("status", "--json"))
    told = json.loads(stack.cli("scale", "--advise", "--json"))
    assert told["policy"] == before["fleet"]["policy"]
    assert [(one["model"], one["instances_before"]) for one in told["pools"]] == [(MODEL, 2)]
    assert "nothing was done" in stack.cli(
        "scale", "--advise", "--policy", "hpa_ratio", "--parameters", "tolerance=0.3"
    )
    after = json.loads(stack.cli("status", "--json"))
    assert after["decisions"] == before["decisions"]
    assert after["fleet"]["models"][0]["ready_count"] == 2
    assert "hpa_ratio" in stack.cli("scale", "--advise", "--policy", "nosuch", status=1)
    assert "tolerance" in stack.cli("scale", "--advise", "--policy", "hpa_ratio", "--parameters", "nosuch=1", status=1)


def test_bounds_are_set_and_what_is_not_given_stays(stack: RunningStack) -> None:
    bounds = json.loads(stack.cli("fleet", "--json"))["models"][0]["bounds"]
    most = bounds["instances_max"]
    assert f"{MODEL} has 2 to {most} instances" in stack.cli("scale", MODEL, "--min", "2")
    assert f"{MODEL} has {bounds['instances_min']} to {most}" in stack.cli(
        "scale", MODEL, "--min", str(bounds["instances_min"])
    )
    assert MODEL in stack.cli("scale", "nosuch", "--max", "1", status=1)
    assert "instances_max" in stack.cli("scale", MODEL, "--min", str(most + 1), status=1)


def test_a_scaling_decision_is_explained(stack: RunningStack) -> None:
    decisions = json.loads(stack.cli("status", "--json"))["decisions"]
    assert MODEL in stack.cli("explain", decisions[0]["decision_id"])


def test_an_unknown_decision_is_an_error_that_says_so(stack: RunningStack) -> None:
    assert "no decision 'nosuch' is on record" in stack.cli("explain", "nosuch", status=1)


def test_the_doctor_sees_the_running_stack(stack: RunningStack) -> None:
    found = {one["check"]: one for one in json.loads(stack.cli("doctor", "--json"))}
    assert found["ports"]["level"] == found["database"]["level"] == found["python"]["level"] == "ok"
    assert "answers on all" in found["ports"]["seen"]


def test_a_second_stack_of_the_same_folder_is_refused(stack: RunningStack) -> None:
    assert "forebay down" in stack.cli("up", status=1)


def test_an_unknown_model_is_refused_with_those_that_are_served(stack: RunningStack) -> None:
    assert MODEL in stack.cli("load", "--models", "nosuch", "--limit", "1", status=2)


def test_ctrl_c_leaves_no_process_and_no_run_behind(tmp_path: Path) -> None:
    running = start(tmp_path, "--emulated", "1", "--models", MODEL)
    run = running.run
    pids = marked(run.run_id)
    assert len(pids) >= 6
    running.stop()
    assert running.process.returncode == 0
    assert marked(run.run_id) == []
    assert not run_file(tmp_path).exists()
    assert not answers(run.addresses.http)


def test_down_ends_what_a_killed_supervisor_left_behind(tmp_path: Path) -> None:
    running = start(tmp_path, "--emulated", "1", "--models", MODEL)
    run_id = running.run.run_id
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait(10)
    assert marked(run_id) != []
    assert "stopped" in running.cli("down")
    assert marked(run_id) == []


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path, stack: RunningStack) -> None:
    taken = stack.addresses.grpc["scheduler"]
    base = int(taken.rpartition(":")[2]) - 101
    failed = _up(tmp_path, "--port-base", str(base))
    assert failed.returncode == 1
    assert taken in failed.stderr
    assert "--port-base" in failed.stderr


def test_a_service_that_cannot_start_ends_the_start_with_its_own_words(tmp_path: Path) -> None:
    config = tmp_path / "forebay.toml"
    config.write_text("[scheduler]\nroutr = 1\n")
    base = free_port_base()
    failed = _up(tmp_path, "--config", str(config), "--port-base", str(base))
    assert failed.returncode == 1
    assert "did you mean 'router'" in failed.stderr
    assert not answers(addresses_from(base).grpc["metrics"])


@pytest.mark.parametrize("command", ["status", "load"])
def test_without_a_stack_commands_say_how_to_start_one(tmp_path: Path, command: str) -> None:
    base = free_port_base()
    nowhere = {f"FOREBAY_{name.upper()}": address for name, address in addresses_from(base).grpc.items()}
    done = subprocess.run(
        [sys.executable, "-m", "forebay.cli", command, "--state-dir", str(tmp_path)],
        env={**environment(), **nowhere, "FOREBAY_HTTP": f"127.0.0.1:{base}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "forebay up" in done.stderr


def test_the_demonstration_runs_from_start_to_end(tmp_path: Path) -> None:
    options = ["--duration", "5", "--port-base", str(free_port_base()), "--state-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "forebay.cli", "demo", *options],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("0 failed", "Ready instances", "Why did the slowest request go where it went?", "stopping everything"):
        assert part in done.stdout
    assert not run_file(tmp_path).exists()


def _up(state_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "forebay.cli", "up", *options, "--state-dir", str(state_dir)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
