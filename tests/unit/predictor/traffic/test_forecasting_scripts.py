"""Behaviour of the forecasting engine as scripts with expected transcripts; FOREBAY_REWRITE=1 writes them anew.

engine KEY=VALUE ...        an engine with these settings
by NAME [LEVEL]             who forecasts from now on: `level` says LEVEL, `broken` fails once it is fitted
history SERIES COUNT*TIMES ...   what metrics will tell of a series; windows are of a minute and end now
ask SERIES [@MINUTE]        the answer's label and median, and what the engine wants
ask SERIES blindly [@MINUTE]     the same while metrics is away
refitted SERIES | failed SERIES  how the refit on its way ended
figures                     what was counted
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from forebay.core.units import US_PER_S
from forebay.core.values import WorkloadPoint
from forebay.predictor.policy.forecaster import Fitted, LastValue, LeastError
from forebay.predictor.traffic.asking import Asking, Who
from forebay.predictor.traffic.forecasting import ForecastingEngine, Refit, Settings
from forebay.predictor.traffic.history import SeriesName, told_of
from forebay.predictor.traffic.learned import learn
from forebay.predictor.traffic.series import Floats, Series
from tests.unit.transcripts import check, scripts

SCRIPTS = scripts("forecasting")
W = 60 * US_PER_S
START = 100
"""Minutes before the first @0: history needs room."""


@dataclass(frozen=True, slots=True)
class Level:
    """Says one number; a broken one cannot, but of the windows that were there when it was fitted."""

    level: float = 0.0
    is_broken: bool = False

    def fit(self, series: Series) -> Fitted:
        return self

    def points(self, series: Series, horizon_count: int) -> Floats:
        if self.is_broken and horizon_count == 2:
            raise RuntimeError("broken")
        return np.full((horizon_count, 3), self.level)


class Script:
    """Runs the commands of one script."""

    def __init__(self) -> None:
        self._engine = ForecastingEngine(Settings())
        self._who = Who("level", Level(), "least_error", LeastError())
        self._histories: dict[str, list[int]] = {}
        self._refits: dict[str, Refit] = {}
        self._minute = 0

    def command(self, line: str) -> list[str]:
        """What one command prints."""
        verb, *words = line.split()
        if words and words[-1].startswith("@"):
            self._minute = int(words.pop()[1:])
        found: list[str] = getattr(self, f"_{verb}")(*words)
        return found

    def _engine_(self, *words: str) -> list[str]:
        pairs = dict(word.split("=") for word in words)
        changes = {key: int(value) if key == "series_max" else float(value) for key, value in pairs.items()}
        self._engine = ForecastingEngine(replace(Settings(), **changes))  # type: ignore[arg-type]
        return []

    def _by(self, name: str, level: str = "0") -> list[str]:
        policies = {"level": Level(float(level)), "broken": Level(is_broken=True), "last_value": LastValue()}
        self._who = replace(self._who, label=name, policy=policies[name])
        return []

    def _history(self, series: str, *runs: str) -> list[str]:
        pairs = [run.split("*") for run in runs]
        self._histories[series] = [int(count) for count, times in pairs for _ in range(int(times))]
        return []

    def _ask(self, series: str, how: str = "") -> list[str]:
        end, name = START + self._minute, SeriesName(series, "", 0, W)
        if not how:
            counts = self._histories[series]
            first = end - len(counts)
            points = [WorkloadPoint((first + row) * W, count, count, count) for row, count in enumerate(counts)]
            self._engine.on_history(name, told_of(points, W), end * W)
        found = self._engine.on_asked(name, self._who, (end + 1) * W, 1, end * W)
        return ["nobody knows"] if found is None else self._answered(found)

    def _answered(self, asking: Asking) -> list[str]:
        answer = asking.answer()
        shifted = ", level shift" if answer.is_shifted else ""
        failed = f", failed: {answer.failure}" if answer.failure else ""
        lines = [f"{answer.label} says {answer.forecasts[0].requests.p50:g}{shifted}{failed}"]
        for refit in self._engine.on_answered(asking, answer, (START + self._minute) * W):
            self._refits[refit.name.model] = refit
            lines.append(f"refit {refit.name.model} by {refit.label}, {len(refit.series)} windows")
        return lines

    def _refitted(self, series: str) -> list[str]:
        refit = self._refits.pop(series)
        learned = learn(refit.policy, refit.series, 1)
        self._engine.on_refitted(refit, learned, (START + self._minute) * W)
        return []

    def _failed(self, series: str) -> list[str]:
        self._engine.on_refit_failed(self._refits.pop(series), (START + self._minute) * W)
        return []

    def _figures(self) -> list[str]:
        counts = self._engine.counts
        chosen = " ".join(f"{label}={count}" for label, count in sorted(self._engine.chosen().items())) or "nobody"
        return [
            f"{self._engine.series_count} series, {counts.refits} refits, {counts.refit_failures} refits failed, "
            f"{counts.answer_failures} answers failed, {counts.shifts} shifts; chosen: {chosen}"
        ]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_leads_to_its_transcript(path: Path) -> None:
    script = Script()
    check(path, lambda line: script.command(line.replace("engine ", "engine_ ", 1)))


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 4
