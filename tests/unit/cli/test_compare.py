"""Wrong experiments and options are refused in one sentence before anything runs; what ships is right."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from forebay.cli import main
from forebay.cli.compare import EXPERIMENTS, MORE, find_experiment
from forebay.cli.datasets import data_dir
from forebay.cli.loaders import SAMPLES
from forebay.core.errors import ConfigError
from forebay.simulator.experiment import read
from forebay.simulator.jobs import jobs_of

SHIPPED = sorted(EXPERIMENTS.glob("*.toml"))
LONG = sorted(MORE.glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_experiment_that_ships_is_right(path: Path) -> None:
    if "data:" in path.read_text() and data_dir() is None:
        pytest.skip("needs the public data: set FOREBAY_DATA")
    made = read(path, data_dir(), SAMPLES)
    assert made.name == path.stem
    assert len(made.seeds) >= 3
    assert len(jobs_of(made)) >= 9
    assert find_experiment(path.stem) == path


@pytest.mark.parametrize("path", LONG, ids=lambda path: path.stem)
def test_every_experiment_of_a_checkout_is_right(path: Path, tmp_path: Path) -> None:
    """They are read as if their files of prompts were there, which are made and no public data."""
    if "data:" in path.read_text() and data_dir() is None:
        pytest.skip("needs the public data: set FOREBAY_DATA")
    for name in re.findall(r"\.forebay/prompts/([\w.]+)", path.read_text()):
        (tmp_path / name).write_text('{"prompt": "a"}')
    there = tmp_path / path.name
    there.write_text(path.read_text().replace("../../.forebay/prompts/", ""))
    made = read(there, data_dir(), SAMPLES)
    assert made.name == path.stem
    assert len(made.seeds) >= 5
    assert find_experiment(path.stem) == path


def test_another_trace_keeps_its_lengths_and_takes_the_errors_of_the_prompts(tmp_path: Path) -> None:
    line = '{"prompt": "a", "output_tokens": 30, "predicted_tokens": [10, 20, 30, 40]}\n'
    (tmp_path / "p.jsonl").write_text(line * 20)
    (tmp_path / "e.toml").write_text(
        'seeds = [1]\ncolumns = ["normalized_p99"]\n[trace]\ngenerator = "poisson"\nprompts = "p.jsonl"\n'
        '[[groups]]\nmodel = "m"\nprofile = "A40/Llama-2-7B/tp1"\n'
        '[[policies]]\nname = "one"\n[policies.predictor]\nlength = "recorded"\n'
    )
    arguments = ["compare", "--experiment", str(tmp_path / "e.toml"), "--trace", str(SAMPLES / "trace.csv")]
    arguments += ["--limit", "20", "--instances", "3", "--jobs", "1", "--output", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    job = json.loads(next((tmp_path / "out" / "runs").glob("*/job.json")).read_text())
    assert any("resampled error" in note for note in job["notes"])
    fleet = json.loads(next((tmp_path / "out" / "runs").glob("*/run.json")).read_text())["instances"]
    assert len(fleet) == 3


def test_an_experiment_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="quickstart"):
        find_experiment("nothing-of-that-name")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "--experiment", "nope"], "one of those that ship"),
        (["compare", "--experiment", "quickstart", "--seeds", "a"], "--seeds must be numbers"),
        (["compare", "--experiment", "quickstart", "--seeds", "1,1"], "seeds must differ"),
        (["compare", "--experiment", "quickstart", "--seeds", ""], "seeds is empty"),
        (["compare", "--experiment", "quickstart", "--loads", "nan"], "loads must be numbers above 0"),
        (["compare", "--experiment", "quickstart", "--plot", "x.png"], "must end in .svg"),
        (["compare", "--experiment", "quickstart", "--plot", "no=x.svg"], "no plot 'no'"),
        (["compare", "--experiment", "quickstart", "--plot", "/nowhere/x.svg"], "no folder /nowhere"),
        (["compare", "--experiment", "quickstart", "--jobs", "0"], "--jobs"),
        (["compare", "--experiment", "quickstart", "--trace", "/nowhere.csv"], "no trace /nowhere.csv"),
        (
            ["compare", "--experiment", "quickstart", "--prompts", "/nowhere.jsonl"],
            "there is no file of prompts /nowhere.jsonl",
        ),
        (["compare", "--experiment", "quickstart", "--profile", "none"], "profile must be GPU/MODEL/tpN"),
        (["compare", "--experiment", "quickstart", "--profile", "none/none/tp1"], "unknown GPU 'none'"),
        (["compare", "--experiment", "quickstart", "--instances", "0"], "--instances"),
        (["compare", "--experiment", "quickstart", "--output", "/proc/none"], "--output: cannot make"),
        (["simulate", "--trace", "/nowhere.csv"], "no trace /nowhere.csv"),
        (["simulate", "--format", "azur"], "no format 'azur'"),
        (["simulate", "--format", "mooncake"], "trace.csv:1: not JSON"),
        (["simulate", "--fleet", "H100"], "--fleet"),
        (["simulate", "--policy", "router=none"], "unknown router 'none'"),
        (["simulate", "--policy", "router=power_of_two,router.x=1"], "unknown key 'x'"),
        (["simulate", "--policy", "autoscaler=none"], "unknown policy 'none'"),
        (["simulate", "--generate", "none"], "no generator 'none'"),
        (["simulate", "--generate", "poisson", "--trace", "x"], "exclude each other"),
        (["simulate", "--generate", "poisson", "--option", "rate=1"], "unknown key 'rate'"),
        (["simulate", "--generate", "poisson", "--option", "rate"], "is not KEY=VALUE"),
        (["simulate", "--slo-classes", "gold=1"], "no class gold"),
        (["simulate", "--slo-classes", "deferred"], "is not NAME=SHARE"),
        (["simulate", "--models", "other=1"], "asks for other"),
        (["simulate", "--start", "1e9"], "trace ends at"),
        (["simulate", "--load", "0"], "--load"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_refused_with_status_2(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert "Traceback" not in result.output
