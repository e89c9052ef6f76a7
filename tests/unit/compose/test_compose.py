"""The stack in containers is one that the real compose binary accepts, and says the same as the services do."""

import importlib.util
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click import Command

from forebay.autoscaler.config import Config
from forebay.autoscaler.register import main as register
from forebay.core.config import from_mapping
from forebay.emulator.__main__ import main as emulator

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; `make dev` installs it")

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "compose"
PROFILES = ("emulated", "triton", "observability", "envoy", "tests")
SERVICES = ("metrics", "predictor", "autoscaler", "scheduler", "gateway")
SHARED = {"emulated": {"instance"}, "triton": {"triton", "triton-register"}}


def rendered(*profiles: str, **variables: str) -> dict[str, Any]:
    """What compose makes of the file for these profiles."""
    spec = importlib.util.find_spec("compose")
    if spec is None or spec.origin is None:
        pytest.skip("no compose binary: `make dev` installs it")
    words = [word for profile in profiles for word in ("--profile", profile)]
    done = subprocess.run(
        [str(Path(spec.origin).parent / "docker-compose"), *words, "config", "--format", "json"],
        cwd=FOLDER,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "level=warning" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    found: dict[str, Any] = rendered(*PROFILES)["services"]
    return found


def options(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--") and word != "--"}


def known(command: Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("profile", ["emulated", "triton"])
def test_a_profile_has_every_service_its_instances_and_a_database(profile: str) -> None:
    found = set(rendered(profile)["services"])
    assert found == {*SERVICES, *SHARED[profile], "postgres", "welcome"}


def test_three_instances_are_emulated_and_another_number_may_be() -> None:
    assert rendered("emulated")["services"]["instance"]["deploy"]["replicas"] == 3
    assert rendered("emulated", INSTANCES="7")["services"]["instance"]["deploy"]["replicas"] == 7


def test_a_service_may_have_another_image_or_stand_elsewhere() -> None:
    found = rendered("emulated", SCHEDULER_IMAGE="mine:2", PREDICTOR="10.0.0.7:9000")["services"]
    images = {name: found[name]["image"] for name in SERVICES}
    assert images.pop("scheduler") == "mine:2"
    assert len(set(images.values())) == 1
    assert {found[name]["environment"]["FOREBAY_PREDICTOR"] for name in SERVICES} == {"10.0.0.7:9000"}


def test_every_process_of_ours_runs_without_rights(stack: dict[str, Any]) -> None:
    for name in (*SERVICES, "instance", "triton-register", "welcome"):
        assert stack[name]["read_only"]
        assert stack[name]["cap_drop"] == ["ALL"]
        assert stack[name]["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r"^USER 1000:1000$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)


def test_ports_are_opened_on_this_machine_only(stack: dict[str, Any]) -> None:
    assert {port["host_ip"] for one in stack.values() for port in one.get("ports", [])} == {"127.0.0.1"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_found_where_it_listens(stack: dict[str, Any], name: str) -> None:
    environment = stack[name]["environment"]
    listen, port = environment["FOREBAY_LISTEN"].split(":")
    assert listen == "0.0.0.0"
    for other in SERVICES:
        found = stack[other]["environment"][f"FOREBAY_{name.upper()}"]
        assert found.removeprefix("dns:") == f"{name}:{port}"


def test_what_is_mounted_is_there(stack: dict[str, Any]) -> None:
    bound = [one["source"] for part in stack.values() for one in part.get("volumes", []) if one["type"] == "bind"]
    assert len(bound) > len(SERVICES)
    assert not [path for path in bound if not Path(path).exists()]


@pytest.mark.parametrize("name", [*SERVICES, "instance"])
def test_prometheus_scrapes_every_service_where_its_metrics_are(stack: dict[str, Any], name: str) -> None:
    text = (FOLDER / "observability" / "prometheus" / "prometheus.yml").read_text()
    ports = {
        host: one["port"]
        for job in yaml.safe_load(text)["scrape_configs"]
        for one in job.get("dns_sd_configs", [])
        for host in one["names"]
    }
    listen = stack[name]["environment"].get("FOREBAY_PROMETHEUS", ":8002")
    assert ports[name] == int(listen.rpartition(":")[2])


def test_what_is_stopped_first_is_what_others_are_drained_by(stack: dict[str, Any]) -> None:
    assert {"autoscaler", "scheduler"} <= set(stack["instance"]["depends_on"])
    assert {*SERVICES, "instance", "triton"} - {"gateway"} <= set(stack["gateway"]["depends_on"])
    assert {"autoscaler", "scheduler", "triton"} <= set(stack["triton-register"]["depends_on"])


@pytest.mark.parametrize("name", ["instance", "triton-register"])
def test_an_instance_registers_with_options_that_exist_and_has_time_to_drain(stack: dict[str, Any], name: str) -> None:
    words = stack[name]["command"]
    end = words.index("--") if "--" in words else len(words)
    assert options(words[:end]) <= known(register)
    assert options(words[end:]) <= known(emulator)
    (drain_s,) = (int(word.partition("=")[2]) for word in words if word.startswith("--drain-timeout="))
    grace_s = sum(
        int(count) * {"m": 60, "s": 1}[unit]
        for count, unit in re.findall(r"(\d+)([ms])", stack[name]["stop_grace_period"])
    )
    assert grace_s > drain_s


def test_the_configuration_is_one_that_the_autoscaler_takes() -> None:
    tables = tomllib.loads((FOLDER / "forebay.toml").read_text())
    config = from_mapping(Config, tables["autoscaler"], "autoscaler")
    assert all(model.is_pulled for model in config.models), "in a container nothing can start containers"
