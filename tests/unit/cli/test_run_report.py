"""What a simulated run prints fits 100 columns and says what its summary says."""

import dataclasses

from rich.console import Console

from forebay.cli.run_report import print_run
from forebay.simulator.config import SloConfig
from forebay.simulator.summary import Summary, summarize
from tests.unit.simulator.made import WORLD, drawn

WIDTH = 100


def shown(summary: Summary) -> str:
    console = Console(width=WIDTH, highlight=False)
    with console.capture() as capture:
        print_run(console, summary, 0.5)
    return capture.get()


def test_all_classes_fit_beside_each_other() -> None:
    summary = dataclasses.replace(summarize(drawn("a", 1), SloConfig(), WORLD), rejections={"HELD_TOO_LONG": 7})
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
    text = shown(summarize(drawn("a", 1), SloConfig(), WORLD))
    assert "unfinished" not in text
    assert "Turned away" not in text
