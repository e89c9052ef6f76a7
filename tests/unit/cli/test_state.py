"""Other commands find a running stack by its run.json, and the caller's word goes first."""

from dataclasses import replace
from pathlib import Path

import pytest

from forebay.cli.state import Run, addresses_from, locate, read_run, run_file, with_predictor, write_run
from forebay.core.errors import ConfigError

RUN = Run("abc", 12, ready=True, addresses=addresses_from(17000), database_url="sqlite:///x", log_dir="logs")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SCHEDULER", "PREDICTOR", "AUTOSCALER", "METRICS", "GATEWAY", "HTTP"):
        monkeypatch.delenv(f"FOREBAY_{name}", raising=False)


def test_a_run_reads_as_it_was_written(tmp_path: Path) -> None:
    write_run(tmp_path, replace(RUN, pids={"metrics": 3}))
    assert read_run(tmp_path) == replace(RUN, pids={"metrics": 3})


def test_without_a_run_there_is_none_and_the_documented_ports_hold(tmp_path: Path) -> None:
    assert read_run(tmp_path) is None
    found = locate(tmp_path)
    assert (found.http, found.grpc["scheduler"], found.grpc["metrics"]) == (
        "127.0.0.1:7080",
        "127.0.0.1:7101",
        "127.0.0.1:7104",
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"run_id": "a"}'])
def test_a_damaged_run_is_an_error_that_says_what_to_do(tmp_path: Path, text: str) -> None:
    run_file(tmp_path).write_text(text)
    with pytest.raises(ConfigError, match="delete it"):
        read_run(tmp_path)


def test_the_option_goes_before_the_environment_and_that_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, RUN)
    assert locate(tmp_path).http == "127.0.0.1:17080"
    monkeypatch.setenv("FOREBAY_HTTP", "elsewhere:1")
    monkeypatch.setenv("FOREBAY_SCHEDULER", "elsewhere:2")
    assert locate(tmp_path).http == "elsewhere:1"
    assert locate(tmp_path).grpc["scheduler"] == "elsewhere:2"
    assert locate(tmp_path, "http://third:3/").http_url == "http://third:3"


def test_a_predictor_of_somebody_else_is_told_and_not_started(tmp_path: Path) -> None:
    addresses = with_predictor(addresses_from(17000), "elsewhere:9102")
    write_run(tmp_path, replace(RUN, addresses=addresses))
    run = read_run(tmp_path)
    assert run is not None
    assert run.addresses == addresses
    assert locate(tmp_path).grpc["predictor"] == "elsewhere:9102"
    assert "predictor" in addresses.services
    assert addresses.own == ("metrics", "autoscaler", "scheduler", "gateway")
    assert "predictor" in RUN.addresses.own
