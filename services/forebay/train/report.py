"""The page of a trained model: one HTML file with everything in it."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from forebay.core.errors import ConfigError
from forebay.core.prediction import PredictorModel
from forebay.simulator.report.template import STYLE
from forebay.train import plots
from forebay.train.candidate import LIVE, Candidate, doubts
from forebay.train.evaluation import Figures, figures, parts, scored
from forebay.train.figures_table import COLUMNS, cells

BREAKDOWNS = ("application", "model", "tenant")
PARTS_MAX = 30

PAGE = """
{%- macro table(columns, rows) -%}
<div class="scroll"><table>
<thead><tr>{% for cell in columns %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ name }} – Forebay length model</title>
<style>{{ style | safe }}</style>
</head>
<body>
<header>
<h1>{{ name }}</h1>
<p class="muted">A model of answer lengths, trained and tested by Forebay. No prompt of the test was trained on.</p>
<div class="facts">
{% for value, label in facts %}<div><b>{{ value }}</b><span>{{ label }}</span></div>
{% endfor %}</div>
</header>
{% if notes %}<div class="caveats"><b>Before you believe it</b><ul>
{% for one in notes %}<li>{{ one }}</li>
{% endfor %}</ul></div>{% endif %}
{% for section in sections %}
<section><h2>{{ section.title }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% if section.svg %}<figure>{{ section.svg | safe }}</figure>{% endif %}
{% if section.rows %}{{ table(section.columns, section.rows) }}{% endif %}
{% if section.code %}<pre>{{ section.code }}</pre>{% endif %}
</section>
{% endfor %}
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: a plot, a table or a text under a heading."""

    title: str
    text: str = ""
    svg: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    code: str = ""


def render(found: Candidate, model: PredictorModel, notes: Sequence[str]) -> str:
    """The page as HTML. Raises ConfigError where jinja2 or matplotlib is not installed."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise ConfigError("reports need jinja2; install it with: pip install 'forebay[simulate]'") from error
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(PAGE)
    return template.render(
        style=STYLE,
        name=f"{model.name}@{model.version}",
        facts=list(_facts(found)),
        notes=[*notes, *_notes(found)],
        sections=list(_sections(found, model)),
    )


def _facts(found: Candidate) -> Iterator[tuple[str, str]]:
    alone, live = found.rows[0], found.rows[1]
    yield f"{live.mae_tokens:.1f}", f"tokens of mean absolute error live, {alone.mae_tokens:.1f} alone"
    yield f"{100 * live.coverage_p90:.1f} %", "of answers within their 90 % bound, live"
    yield f"{live.reserve_ratio:.2f}", "times the tokens needed are reserved at 90 %"
    yield f"{live.tau:.2f}", "Kendall's tau: how well it orders"
    described: Any = found.description
    yield f"{described['train_count']:,} + {described['test_count']:,}", "examples to learn from and to test on"
    yield described["licence"], "licence of the data, as it was given"


def _notes(found: Candidate) -> Iterator[str]:
    yield from doubts(found.rows)
    described: Any = found.description
    if described["censored_count"]:
        text = "answers were cut: they count as long as their cut in training, and are not scored"
        yield f"{described['censored_count']:,} {text}"
    if found.rows[0].count < 200:
        yield f"only {found.rows[0].count} answers are scored: the figures are rough"
    yield "the first fifth of the test examples teaches those who learn and is not scored"
    yield "constant and length only know the other folds of the test examples, which is more than the model knows"


def _sections(found: Candidate, model: PredictorModel) -> Iterator[Section]:
    yield Section("Beside what needs no model", columns=COLUMNS, rows=[cells(row) for row in found.rows])
    live = next(one for one in found.predicted if one.name == LIVE)
    yield Section("Predicted against actual", svg=plots.scatter(live, found.test))
    yield Section("Error by length", svg=plots.error_by_length(found.predicted, found.test))
    text = "A bound of 90 % should hold for 85 to 95 % (the band) of short, middle and long answers alike."
    yield Section("Coverage by length", text, svg=plots.coverage(found.rows))
    for key in BREAKDOWNS:
        rows = _rows_by(found, key)
        if len(rows) > 1:
            yield Section(f"By {key}, live", columns=(key, *COLUMNS[1:]), rows=[cells(row) for row in rows])
    description = "\n".join(f"{name}: {value}" for name, value in sorted(model.metadata.items()) if name != "scores")
    yield Section("How this was made", code=description)


def _rows_by(found: Candidate, key: str) -> list[Figures]:
    live = next(one for one in found.predicted if one.name == LIVE)
    kept = scored(found.test)
    rows = [
        dataclasses.replace(figures(live, found.test, mask & kept), name=label)
        for label, mask in parts(found.test, [key]).items()
    ]
    return sorted((row for row in rows if row.count), key=lambda row: -row.count)[:PARTS_MAX]
