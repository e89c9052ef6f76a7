"""The page and the tables say what the runs say, and the page needs nothing but itself."""

import dataclasses
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from forebay.core.promises import Promise, Promises
from forebay.simulator import store
from forebay.simulator.config import Group, StartConfig, StudentConfig
from forebay.simulator.distance import Distance
from forebay.simulator.experiment import Arm, Experiment
from forebay.simulator.jobs import Done, Job, jobs_of
from forebay.simulator.report import plots, tables
from forebay.simulator.report.caveats import caveats
from forebay.simulator.report.distance import distance_table, distances
from forebay.simulator.report.figure import colours, stand_alone
from forebay.simulator.report.page import Findings, render
from forebay.simulator.report.regret import regret_table, regrets
from forebay.simulator.runner import Ended
from forebay.simulator.statistics import Runs
from forebay.simulator.summary import summarize
from forebay.simulator.trace_config import TraceConfig
from tests.unit.simulator.made import WORLD, drawn

pytest.importorskip("matplotlib", reason="plots need matplotlib")
pytest.importorskip("jinja2", reason="the page needs jinja2")
pytest.importorskip("pyarrow", reason="runs are kept by pyarrow")

FAST, SLOW, ORACLE = "fast", "slow & <safe>", "oracle"
SPEED = {FAST: 0.2, SLOW: 1.5, ORACLE: 0.1}
EXPERIMENT = Experiment(
    name="a <b> test",
    seeds=(1, 2, 3),
    loads=(1.0, 2.0),
    trace=TraceConfig(generator="poisson"),
    groups=(Group(model="m", profile="H100/Llama-3-8B/tp1"),),
    start=StartConfig(variation=0.2),
    policies=(Arm(name=FAST), Arm(name="slow and safe"), Arm(name=ORACLE, oracle=True)),
)


def made(folder: Path, loads: tuple[float, ...] = (1.0, 2.0), seeds: tuple[int, ...] = (1, 2, 3)) -> Findings:
    experiment = dataclasses.replace(EXPERIMENT, loads=loads, seeds=seeds)
    ended = []
    for job in jobs_of(experiment):
        name = {"slow and safe": SLOW}.get(job.policy.name, job.policy.name)
        job = dataclasses.replace(job, policy=dataclasses.replace(job.policy, name=name))
        run = drawn(name, job.seed, job.load, ttft_s=SPEED[name])
        (folder / job.key).mkdir(parents=True)
        summary = summarize(run, Promises(), WORLD)
        if job.load == 1.0:
            hours = summary.fleet.gpu_hours
            summary = dataclasses.replace(summary, distance=Distance(hours / 2 / job.seed, 0.25, 2.0 * job.seed))
        store.write(run, summary, folder / job.key)
        ended.append(Ended(job, Done(400, 0.5, (f"drawn, seed {job.seed}",))))
    summaries = [store.read_summary(folder / one.job.key) for one in ended]
    return Findings(experiment, "[trace]\n# <script>", "forebay compare", ended, folder, Runs(summaries, list(SPEED)))


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return made(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def page(findings: Findings) -> str:
    return render(findings)


class Wellformed(HTMLParser):
    """Counts open elements; void elements and SVG's own are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "br"):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_the_page_is_wellformed_and_has_all_its_parts(page: str) -> None:
    parser = Wellformed()
    parser.feed(page)
    assert not parser.stack
    assert "script" not in parser.seen
    for part in ("summary", "winners", "attainment", "latency", "cost", "oracle", "lengths", "requests", "origin"):
        assert f'<section id="{part}">' in page


def test_the_page_asks_nobody_for_anything(page: str) -> None:
    links = re.findall(r'(?:src|href|xlink:href)="([^"]*)"', page)
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"url\((?!#)|@import", page)


def test_names_and_texts_are_escaped(page: str) -> None:
    assert "a &lt;b&gt; test" in page
    assert "slow &amp; &lt;safe&gt;" in page
    assert "<safe>" not in page
    assert "# &lt;script&gt;" in page


def test_the_page_is_of_a_sensible_size(page: str) -> None:
    assert len(page) < 1_000_000


def test_equal_findings_give_the_same_page(findings: Findings, page: str) -> None:
    assert render(findings) == page


def test_the_winners_are_marked_and_oracles_do_not_compete(findings: Findings) -> None:
    table = tables.winner_table(findings.verdicts, findings.runs.loads)
    row = next(row for row in table.rows if row[0] == "TTFT p50, all classes")
    assert all(cell.startswith(FAST) for cell in row[1:])
    assert not any(ORACLE in cell for row in table.rows for cell in row)


def test_the_distance_to_the_oracle_is_of_every_other_policy(findings: Findings) -> None:
    table = tables.oracle_table(findings.runs, findings.oracles)
    assert table is not None
    assert len(table.rows) == 2 * 2
    assert all("oracle" in row[0] for row in table.rows)
    assert tables.oracle_table(findings.runs, []) is None


def test_the_distance_to_the_best_possible_is_a_mean_over_the_seeds(findings: Findings) -> None:
    table = distance_table(findings.runs, findings.oracles)
    assert table is not None
    assert [row[:2] for row in table.rows] == [("1", FAST), ("1", SLOW), ("1", "oracle (oracle)")]
    assert all(row[-1].startswith("4 ±") and row[-1].endswith(" ×") for row in table.rows)
    found = {(one["policy"], one["load"]): one for one in distances(findings.runs)}
    assert found[FAST, 1.0]["ratio"]["mean"] == 4.0
    assert found[FAST, 2.0]["ratio"] is None


def test_regret_is_what_was_paid_beyond_the_oracle_with_equal_seeds(findings: Findings) -> None:
    table = regret_table(findings.runs, findings.oracles)
    assert table is not None
    assert [row[:2] for row in table.rows[:2]] == [("1", FAST), ("1", SLOW)]
    found = {(one["policy"], one["load"]): one for one in regrets(findings.runs, findings.oracles)}
    fast, oracle = found[FAST, 1.0], found[ORACLE, 1.0]
    hours = {
        name: [one.fleet.gpu_hours for seed in (1, 2, 3) if (one := findings.runs.get(name, 1.0, seed))]
        for name in (FAST, ORACLE)
    }
    pairs = list(zip(hours[FAST], hours[ORACLE], strict=True))
    assert fast["regret"]["mean"] == pytest.approx(sum(own - best for own, best in pairs) / 3)
    assert fast["of_oracle"]["mean"] == pytest.approx(sum(own / best for own, best in pairs) / 3)
    assert (fast["oracle"], oracle["regret"]) == (ORACLE, None)


def test_a_policy_that_misses_the_target_in_a_class_is_told_so_and_the_bound_is_for_the_target() -> None:
    runs = []
    for name, ttft_s in (("good", 0.2), ("bad", 3.0)):
        one = summarize(drawn(name, 1, ttft_s=ttft_s), Promises(interactive_normal=Promise(ttft_s=1.0)), WORLD)
        known = Distance(1.0, 1.0, 2.0, target_share=0.95, target_gpu_hours=one.fleet.gpu_hours / 2, relaxed=True)
        runs.append(dataclasses.replace(one, distance=known))
    table = regret_table(Runs(runs, ["good", "bad"]))
    assert table is not None
    good, bad = table.rows
    assert "misses 95.0 %" in bad[2]
    assert "misses" not in good[2]
    assert (good[4], good[5], good[6]) == ("–", "–", "200.0 %")
    assert regrets(Runs(runs))[0]["bound"] == "relaxation"


def test_without_an_oracle_and_a_bound_there_is_no_regret(findings: Findings) -> None:
    only = Runs([one for seed in (1, 2, 3) if (one := findings.runs.get(FAST, 2.0, seed))])
    assert regret_table(only) is None


def test_a_distance_that_nobody_knows_is_no_table_but_a_caveat(findings: Findings) -> None:
    only = Runs([one for seed in (1, 2, 3) if (one := findings.runs.get(FAST, 2.0, seed))])
    assert distance_table(only) is None
    taught = dataclasses.replace(EXPERIMENT, student=StudentConfig(share=0.1))
    assert "best possible is not known: [student] answers some" in " ".join(caveats(taught, only, findings.ended))
    assert "best possible" not in " ".join(caveats(EXPERIMENT, only, findings.ended))


def test_markdown_has_a_cell_a_column(findings: Findings) -> None:
    for table in (tables.short_table(findings.runs), tables.summary_table(findings.runs, 1.0)):
        lines = table.markdown().splitlines()
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.columns) + 1}


def test_chosen_columns_are_those_of_the_table_and_of_its_verdicts_in_their_order(findings: Findings) -> None:
    columns = ("ttft_p99", "attainment/interactive-normal", "normalized_p99")
    table = tables.short_table(findings.runs, (), columns)
    assert table.columns == (
        "load",
        "policy",
        "TTFT p99",
        "SLO met, interactive-normal",
        "normalised latency p99",
    )
    assert all("±" in row[2] and row[4].endswith("s/token") for row in table.rows)
    found = tables.chosen_verdicts(findings.verdicts, columns)
    keys = list(dict.fromkeys((one.measure.key, one.slo_class) for one in found))
    assert keys[0] == ("ttft_p99", "all")
    assert keys[-1] == ("normalized_p99", "all")
    assert tables.chosen_verdicts(findings.verdicts, ()) == list(findings.verdicts)


@pytest.mark.parametrize("name", plots.PLOTS)
def test_every_plot_is_a_picture_of_its_own(findings: Findings, name: str) -> None:
    svg = plots.PLOTS[name](findings.runs, 1.0, findings.oracles)
    alone = stand_alone(svg)
    assert ElementTree.fromstring(alone).tag.endswith("svg")
    assert "currentColor" not in alone
    assert "var(" not in alone
    assert "currentColor" in svg


@pytest.mark.parametrize("name", plots.PLOTS)
def test_a_dozen_policies_of_long_names_have_room_in_every_plot(findings: Findings, name: str) -> None:
    long = [f"join the shortest queue by tokens, number {number}" for number in range(12)]
    some = [one for seed in (1, 2, 3) for load in (1.0, 2.0) if (one := findings.runs.get(FAST, load, seed))]
    runs = Runs([dataclasses.replace(one, name=policy) for one in some for policy in long], long)
    svg = plots.PLOTS[name](runs, 1.0, ())
    assert all(policy in svg for policy in long)


def test_oracles_are_hollow_in_the_pareto_plot(findings: Findings) -> None:
    assert findings.oracles
    colour = colours(findings.runs.policies)[ORACLE]
    hollow, filled = (plots.PLOTS["pareto"](findings.runs, 1.0, names) for names in (findings.oracles, ()))
    assert hollow.count(f"fill: {colour}") < filled.count(f"fill: {colour}")


def test_ticks_keep_their_digits(findings: Findings) -> None:
    svg = plots.state_plot(findings.runs, 1.0)
    ticks = [float(text) for text in re.findall(r">(\d+\.\d+)</text>", svg)]
    steps = {round(after - before, 6) for before, after in pairwise(ticks)}
    assert len(steps) == 1


def test_the_style_is_left_as_it_is(page: str) -> None:
    style = page[page.index("<style>") : page.index("</style>")]
    assert '"Segoe UI"' in style
    assert "&#34;" not in style


def test_one_seed_and_one_load_are_shown_without_intervals(tmp_path: Path) -> None:
    page = render(made(tmp_path, (1.0,), (1,)))
    assert "One seed: there are no intervals." in page
    assert "(one seed)" in page


def test_a_comparison_says_what_makes_it_unfair(findings: Findings) -> None:
    job = findings.ended[0].job
    failed = [*findings.ended, Ended(Job("lost", job.trace, job.world, job.policy, 1, 1.0), error="boom")]
    text = " ".join(caveats(findings.experiment, findings.runs, failed))
    assert "1 of 19 runs failed" in text
    assert "Seeds: 3; fair is at least 5." in text
    assert "need 7 days" in text
    assert "their mean time" not in text
    sure = dataclasses.replace(EXPERIMENT, start=StartConfig(), groups=(Group(model="m", profile="L4/Llama-3-8B/tp1"),))
    text = " ".join(caveats(sure, findings.runs, findings.ended))
    assert "their mean time" in text
    assert "uncalibrated" in text


def test_wellformed_finds_a_missing_end() -> None:
    with pytest.raises(AssertionError):
        Wellformed().feed("<p><b></p>")
