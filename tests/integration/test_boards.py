"""Boards and alerts ask what a live stack tells: a real Prometheus scrapes one under load and answers every query."""

import asyncio
import json
import math
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running_stack import load, start
from tests.integration.prometheus import FOLDER, ROOT, Prometheus, found, running

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; `make dev` installs it")

BOARDS = sorted((ROOT / "compose" / "observability" / "grafana" / "boards").glob("*.json"))
RULES = sorted((FOLDER / "rules").glob("*.yml"))
WAIT_S = 60.0
ROUND_COUNT_MAX = 40
METRIC = re.compile(r"\b(?:forebay|gen_ai)_\w+")
GROUPED = re.compile(r"\b(?:by|on|without)\s*\([^)]*\)")
SILENT = {
    "Limits in force": "no limit is in force",
    "gRPC calls that failed": "none fails",
    "Placed without the scheduler": "the scheduler is there",
    "Traffic forecasts": "nobody asks for a forecast",
    "Series and who forecasts them": "nothing is fitted yet",
}
"""Panels that show nothing on a healthy stack, with the reason; all others must show something."""


@dataclass(frozen=True)
class Query:
    """One query of a board, as Prometheus gets it."""

    board: str
    panel: str
    text: str


def boards() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in BOARDS:
        yield path, json.loads(path.read_text())


def panels() -> list[tuple[Path, dict[str, Any]]]:
    return [(path, panel) for path, board in boards() for panel in board["panels"]]


def queries() -> list[Query]:
    return [
        Query(path.stem, panel["title"], filled(target["expr"]))
        for path, panel in panels()
        for target in panel["targets"]
    ]


def filled(expression: str) -> str:
    """With Grafana's variables as they are for all models."""
    return expression.replace("$model", ".*").replace("$__rate_interval", "10s")


def rules() -> list[dict[str, Any]]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def metrics_in(expression: str) -> set[str]:
    """The names of metrics, which labels are not."""
    bare = re.sub(r"\{[^}]*\}", "", GROUPED.sub("", expression))
    return set(METRIC.findall(bare))


def test_every_panel_has_words_a_unit_a_source_and_a_place_of_its_own() -> None:
    assert {path.stem for path in BOARDS} == {"services", "fleet", "predictions", "slos"}
    for path, board in boards():
        assert board["uid"] == f"forebay-{path.stem}"
        assert board["description"]
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken, panel["title"]
            assert place["x"] + place["w"] <= 24, panel["title"]
            taken |= cells
            assert len(panel["description"]) > 10, panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}


def test_every_alert_says_what_it_is_what_it_means_and_what_to_do() -> None:
    for rule in rules():
        assert {"summary", "description", "action"} == set(rule["annotations"]), rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    for arguments in (["config", "--syntax-only", str(FOLDER / "prometheus.yml")], ["rules", *map(str, RULES)]):
        done = subprocess.run([found("promtool"), "check", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_not_otherwise() -> None:
    tests = sorted((FOLDER / "tests").glob("*.yml"))
    done = subprocess.run([found("promtool"), "test", "rules", *tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = "".join(path.read_text() for path in tests)
    assert [rule["alert"] for rule in rules() if rule["alert"] not in told] == []


async def test_a_live_stack_answers_every_query_of_boards_and_alerts(tmp_path: Path) -> None:
    program = found("prometheus")
    stack = await asyncio.to_thread(start, tmp_path)
    try:
        async with running(program, tmp_path, stack.addresses.prometheus) as prometheus:
            async with load(stack):
                silent = await silent_in_the_end(prometheus)
            assert [one for one in silent if one.panel not in SILENT] == []
            await knows_every_metric(prometheus)
            await evaluates_every_rule(prometheus)
            await is_content(prometheus)
    finally:
        await asyncio.to_thread(stack.stop)


async def silent_in_the_end(prometheus: Prometheus) -> list[Query]:
    """Asks every query until each has given a number or time is up; those that gave none."""
    silent = queries()
    for _ in range(ROUND_COUNT_MAX):
        silent = [one for one in silent if not await has_number(prometheus, one.text)]
        if all(one.panel in SILENT for one in silent):
            break
        await asyncio.sleep(1.0)
    return silent


async def has_number(prometheus: Prometheus, query: str) -> bool:
    return any(not math.isnan(float(one["value"][1])) for one in await prometheus.ask(query))


async def knows_every_metric(prometheus: Prometheus) -> None:
    """Those without a series are at least published, under that name."""
    known = set(await prometheus.get("/label/__name__/values"))
    published = set(await prometheus.get("/metadata"))
    expressions = [one.text for one in queries()] + [rule["expr"] for rule in rules()]
    wanted = {name for expression in expressions for name in metrics_in(expression)}
    assert len(wanted) > 40
    unknown = {name for name in wanted - known if not {name, name.removesuffix("_total")} & published}
    assert unknown == set()


async def evaluates_every_rule(prometheus: Prometheus) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            groups = (await prometheus.get("/rules"))["groups"]
            seen = {
                rule["name"]: (rule["health"], rule.get("lastError", "")) for one in groups for rule in one["rules"]
            }
            if all(health != "unknown" for health, _ in seen.values()):
                break
            await asyncio.sleep(0.5)
    assert seen == {rule["alert"]: ("ok", "") for rule in rules()}


async def is_content(prometheus: Prometheus) -> None:
    """Five services are up, and nobody is paged."""
    assert {one["metric"]["job"] for one in await prometheus.ask("up == 1")} == {
        "gateway",
        "scheduler",
        "predictor",
        "autoscaler",
        "metrics",
    }
    assert await prometheus.ask('ALERTS{alertstate="firing"}') == []
    expected = await prometheus.ask('sum(forebay_slo_requests_total{kept="yes"})')
    assert float(expected[0]["value"][1]) > 10
