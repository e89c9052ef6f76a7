"""A forecaster that knows what will arrive, and says so, or something else."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forebay.core.prediction import Quantiles, WorkloadForecast
from forebay.core.units import US_PER_S
from forebay.predictor.policy.forecaster.base import WorkloadHistory
from forebay.simulator.workload.base import Ints, Workload


@dataclass(frozen=True, slots=True, eq=False)
class ClairvoyantForecast:
    """Forecasts the windows of one model as they will be, as all quantiles; an empty name takes all models together.

    So do an empty region and class 0.

    Windows count requests where they arrive, answers with their served length. What waits for a parent counts at the
    time that the trace gives, since when it really arrives depends on the policies.

    To see what a wrong forecast does, it says `factor` times the truth, of `late_s` before.
    """

    workload: Workload
    model: str = ""
    region: str = ""
    slo_class: int = 0
    factor: float = 1.0
    late_s: float = 0.0

    def __post_init__(self) -> None:
        if self.factor < 0 or self.late_s < 0:
            raise ValueError("factor and late_s must not be negative")

    def forecast(self, history: WorkloadHistory, now_us: int = 0) -> tuple[WorkloadForecast, ...]:
        """The truth of each window; reads nothing of the history, and knows it at any time."""
        starts = history.first_start_us + history.window_us * np.arange(history.horizon_count + 1, dtype=np.int64)
        arrival_us, prompt_tokens, answer_tokens = self._columns()
        told = starts - round(self.late_s * US_PER_S)
        first, *_ = edges = np.searchsorted(arrival_us, told)
        inside = slice(first, edges[-1])
        windows = np.searchsorted(told, arrival_us[inside], side="right") - 1
        sums = [
            np.bincount(windows, weights=column[inside], minlength=history.horizon_count)
            for column in (np.ones(len(arrival_us)), prompt_tokens, answer_tokens)
        ]
        return tuple(
            WorkloadForecast(int(start_us), *(_certain(self.factor * float(column[index])) for column in sums))
            for index, start_us in enumerate(starts[:-1])
        )

    def _columns(self) -> tuple[Ints, Ints, Ints]:
        workload = self.workload
        answers = served_tokens(workload)
        if not (self.model or self.region or self.slo_class):
            return workload.arrival_us, workload.prompt_tokens, answers
        mine = rows_of(workload, self.model, self.region, self.slo_class)
        return workload.arrival_us[mine], workload.prompt_tokens[mine], answers[mine]


def rows_of(workload: Workload, model: str, region: str = "", slo_class: int = 0) -> npt.NDArray[np.bool_]:
    """Which rows want the model, from the region and of the class; what is empty or 0 takes all."""
    mine = np.ones(len(workload), dtype=np.bool_)
    if model:
        mine &= workload.model == _index(workload.models, model)
    if region:
        mine &= workload.region == _index(workload.regions, region)
    return mine & (workload.slo_class == slo_class) if slo_class else mine


def _index(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else -1


def served_tokens(workload: Workload) -> Ints:
    """How long each answer gets: its true length, cut at the client's limit."""
    limit = workload.output_tokens_max
    return np.where(limit > 0, np.minimum(workload.output_tokens, limit), workload.output_tokens)


def _certain(value: float) -> Quantiles:
    return Quantiles(value, value, value, value)
