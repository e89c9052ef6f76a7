"""One scenario in every language that a client is written in: the same program, against the same live stack."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running_stack import MODEL, ROOT, RunningStack, environment

CLIENTS = ROOT / "clients"
TOOL_CHAIN_ABSENT = 3
BUILD_TIMEOUT_S = 300
SCENARIO_TIMEOUT_S = 180
STEPS = ["predict", "place", "progress", "finish", "explain", "refuse", "watch_fleet", "deferred"]
SERVICES = ("scheduler", "predictor", "autoscaler", "gateway")
PLACING = ["predict", "place", "progress", "finish", "cancel", "explain", "instances", "fleet", "watchfleet"]
DEFERRING = ["submit", "job", "watch", "cancel", "results"]
COMMANDS: dict[str, list[Any]] = {
    "python": [sys.executable, CLIENTS / "python" / "examples" / "scenario.py"],
    "python-asynchronous": [sys.executable, CLIENTS / "python" / "examples" / "scenario.py", "--asynchronous"],
    "typescript": ["node", CLIENTS / "typescript" / "dist" / "examples" / "scenario.js"],
    "go": [CLIENTS / "go" / ".build" / "bin" / "scenario"],
    "java": [CLIENTS / "java" / ".build" / "scenario"],
}


@cache
def build(language: str) -> None:
    """Builds a client; skips where its tool chain is absent, and says what installs it."""
    script = CLIENTS / language / "build.sh"
    if not script.exists():
        return
    done = subprocess.run([script], capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
    if done.returncode == TOOL_CHAIN_ABSENT:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, f"{script} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"


def ran(command: list[Any], stack: RunningStack, model: str = MODEL) -> subprocess.CompletedProcess[str]:
    where = [part for name in SERVICES for part in (f"--{name}", stack.addresses.grpc[name])]
    return subprocess.run(
        [*command, *where, "--model", model],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SCENARIO_TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("language", COMMANDS)
def test_the_scenario_gives_the_same_steps_in_every_language(language: str, stack: RunningStack) -> None:
    build(language)
    done = ran(COMMANDS[language], stack)
    assert done.returncode == 0, f"the scenario ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    steps = {one.pop("step"): one for one in map(json.loads, done.stdout.splitlines())}
    assert list(steps) == STEPS
    check_values(steps)


def check_values(steps: dict[str, dict[str, Any]]) -> None:
    """What must be so in every language, whatever the stack holds."""
    lengths = [steps["predict"][name] for name in ("p10", "p50", "p90", "p97")]
    assert 0 < lengths[0] <= lengths[-1] <= 64
    assert lengths == sorted(lengths)
    place = steps["place"]
    assert place.pop("lease_id")
    assert place == {"instance_id": place["instance_id"], "same_lease": True}
    assert place["instance_id"].endswith(f"/{MODEL}")
    assert (steps["progress"], steps["finish"]) == ({}, {})
    assert steps["explain"] == {"verdict": "PLACED", "instance_id": place["instance_id"], "candidate_count": 2}
    assert steps["refuse"] == {
        "code": "INVALID_ARGUMENT",
        "reason": "INVALID_ARGUMENT",
        "violations": {"request.model": "must not be empty"},
    }
    assert steps["watch_fleet"] == {"ready_count": 2}
    assert steps["deferred"] == {"status": "COMPLETED", "results": ["a", "b"]}


@pytest.mark.parametrize("language", [name for name in COMMANDS if name != "python-asynchronous"])
def test_the_scenario_fails_with_the_servers_reason_where_a_model_is_unknown(
    language: str, stack: RunningStack
) -> None:
    build(language)
    done = ran(COMMANDS[language], stack, model="nosuch")
    assert done.returncode == 1
    assert "MODEL_UNKNOWN" in done.stderr


@pytest.mark.parametrize("language", ["python", "typescript", "go", "java"])
def test_every_client_ships_its_licence_and_a_readme_that_names_all_verbs(language: str) -> None:
    folder: Path = CLIENTS / language
    assert "Apache License" in (folder / "LICENSE").read_text()
    readme = (folder / "README.md").read_text().replace("_", "").lower()
    assert [verb for verb in (*PLACING, *DEFERRING) if verb not in readme] == []
