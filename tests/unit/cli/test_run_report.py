"""What a simulated run prints fits 100 columns and says what its summary says."""

import dataclasses

from rich.console import Console

from forebay.cli.run_report import print_run
from forebay.core.promises import Promises
from forebay.simulator.distance import Distance
from forebay.simulator.summary import Summary, summarize
from tests.unit.simulator.made import WORLD, drawn

WIDTH = 100


def shown(summary: Summary) -> str:
    console = Console(width=WIDTH, highlight=False)
    with console.capture() as capture:
        print_run(console, summary, 0.5)
    return capture.get()


def test_all_classes_fit_beside_each_other() -> None:
    summary = dataclasses.replace(summarize(drawn("a", 1), Promises(), WORLD), rejections={"HELD_TOO_LONG": 7})
    text = shown(summary)
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    for part in (
        "SLO met",
        "TTFT p99",
        "normal",
        "GPU-hours",
        "1 instances added",
        "HELD_TOO_LONG",
        "800 requests a second",
    ):
        assert part in text


def test_rows_of_what_did_not_happen_are_left_out() -> None:
    text = shown(summarize(drawn("a", 1), Promises(), WORLD))
    assert "unfinished" not in text
    assert "Turned away" not in text
    assert "at least" not in text


def test_the_distance_to_the_best_possible_is_told() -> None:
    plain = summarize(drawn("a", 1), Promises(), WORLD)
    near = shown(dataclasses.replace(plain, distance=Distance(1.3, 0.7, 1.5)))
    assert max(len(line) for line in near.splitlines()) <= WIDTH
    assert "1.3 GPU-hours are needed" in near
    assert "used: 1.5 × that" in near
    assert "1.3" not in shown(plain)
    assert "unknown: several groups" in shown(dataclasses.replace(plain, distance=Distance(refusal="several groups")))
