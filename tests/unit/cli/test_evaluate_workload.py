"""`forebay evaluate workload` on points of anybody's."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from forebay.cli.evaluate_workload import leads_of, seconds_of
from forebay.cli.root import main
from forebay.core.errors import ConfigError

SEED = 4
MODELS = "last_value,seasonal,least_error"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two series of four days in hours: one with a daily cycle, one without."""
    chance = np.random.default_rng(SEED)
    hours = np.arange(96)
    day = 500 + 300 * np.sin(2 * np.pi * hours / 24) + chance.normal(0, 5, 96)
    level = 200 + np.cumsum(chance.normal(0, 5, 96))
    path = tmp_path_factory.mktemp("workload") / "points.jsonl"
    with path.open("w") as lines:
        for name, values in (("cycle", day), ("drift", level)):
            for hour, value in zip(hours.tolist(), values.tolist(), strict=True):
                lines.write(
                    json.dumps({"start_time": 3_600 * hour, "requests": max(0, round(value)), "model": name}) + "\n"
                )
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", "workload", "--window", "3600", *map(str, arguments)])


def test_scores_stand_beside_those_of_the_last_value(data: Path) -> None:
    told = json.loads(run("--data", data, "--models", MODELS, "--horizon", "1h,6h", "--json").output)
    assert (told["window_s"], told["leads"]) == (3_600, [1, 6])
    wapes = {
        (row["series"], row["model"], score["lead"]): score["wape"]
        for row in told["rows"]
        for score in row["scores"]
        if score["quantity"] == "requests"
    }
    assert wapes["cycle", "seasonal", 6] < 0.3 * wapes["cycle", "last_value", 6]
    assert wapes["drift", "seasonal", 1] > wapes["drift", "last_value", 1]
    unknown = [score for row in told["rows"] for score in row["scores"] if score["quantity"] == "prompt_tokens"]
    assert {score["wape"] for score in unknown} == {None}


def test_the_table_names_series_forecasters_and_the_gain(data: Path) -> None:
    shown = run("--data", data, "--models", MODELS).output
    assert "cycle: requests, windows of 3600 s" in shown
    assert "seasonal: WAPE below the last value's by" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_a_page_of_plots_is_written(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    assert run("--data", data, "--models", MODELS, "--report", page).exit_code == 0
    text = page.read_text()
    assert text.count("<svg") == 2
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_forecasts_of_the_default_forecaster_are_scored(data: Path) -> None:
    told = json.loads(run("--data", data, "--json").output)
    assert {row["model"] for row in told["rows"]} == {"last_value", "seasonal", "least_cost"}
    assert {row["failure_count"] for row in told["rows"]} == {0}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--models", "oracle"], "unknown forecaster 'oracle'"),
        (["--horizon", "90m"], "whole windows"),
        (["--horizon", "soon"], "'soon' is no time"),
        (["--horizon", "90d"], "whole windows"),
        (["--refit", "0"], "is no time"),
        (["--by", "tenant"], "tenant"),
        (["--window", "0"], "--window"),
        (["--test", "0.05"], "96 windows, and"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(data: Path, arguments: list[str], complaint: str) -> None:
    found = run("--data", data, *arguments)
    assert found.exit_code == 2
    assert complaint in found.output
    assert "Traceback" not in found.output


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("start_time,requests\n0,1\n3600,many\n")
    found = run("--data", path)
    assert found.exit_code == 2
    assert "bad.csv:3: requests must be" in found.output


def test_times_are_read_as_people_write_them() -> None:
    assert [seconds_of(text) for text in ("90", "90s", "10m", "2h", "1d")] == [90, 90, 600, 7_200, 86_400]
    assert leads_of(None, 600) == (1, 6, 12)
    assert leads_of(None, 3_600) == (1, 2)
    assert leads_of("24h", 60) == (1_440,)
    with pytest.raises(ConfigError):
        leads_of("25h", 60)
