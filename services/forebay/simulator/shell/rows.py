"""What becomes of each row, in plain lists while the run lasts."""

import numpy as np

from forebay.core.values import LengthQuantiles
from forebay.simulator.results import STATUSES, UNKNOWN, RequestColumns
from forebay.simulator.workload.base import Workload

FINISHED, REJECTED, FAILED, UNFINISHED = (
    STATUSES.index(name) for name in ("finished", "rejected", "failed", "unfinished")
)


class Rows:
    """A list a column of RequestColumns, for those that the workload does not hold; `ended_count` rows have ended."""

    def __init__(self, workload: Workload) -> None:
        count = len(workload)
        self._workload = workload
        self.ended_count = 0
        self.arrival_us = [UNKNOWN] * count
        self.first_us = [UNKNOWN] * count
        self.finish_us = [UNKNOWN] * count
        self.held_us = [0] * count
        self.status = [UNFINISHED] * count
        self.instance = [UNKNOWN] * count
        self.hit_tokens = [0] * count
        self.predicted_p50 = [UNKNOWN] * count
        self.predicted_p90 = [UNKNOWN] * count
        self.preemption_count = [0] * count
        self.lost_tokens = [0] * count
        self.gap_us = [UNKNOWN] * count
        self.attempt_count = [0] * count

    def predicted(self, row: int, quantiles: LengthQuantiles) -> None:
        """The prediction that a placement rests on."""
        self.predicted_p50[row], self.predicted_p90[row] = quantiles.p50, quantiles.p90

    def ended(self, row: int, status: int) -> None:
        """The row has got its one answer. Raises ValueError where it had one."""
        if self.status[row] != UNFINISHED:
            raise ValueError(f"row {row} is {STATUSES[self.status[row]]} and was answered again")
        self.status[row] = status
        self.ended_count += 1

    def columns(self, output_tokens: list[int]) -> RequestColumns:
        """The columns of the result; `output_tokens` is what the instances generate at most for each row."""
        own, workload = self._int64, self._workload
        return RequestColumns(
            arrival_us=own(self.arrival_us),
            first_us=own(self.first_us),
            finish_us=own(self.finish_us),
            held_us=own(self.held_us),
            status=own(self.status),
            slo_class=workload.slo_class,
            model=workload.model,
            tenant=workload.tenant,
            region=workload.region,
            program=workload.program,
            instance=own(self.instance),
            prompt_tokens=workload.prompt_tokens,
            output_tokens=own(output_tokens),
            hit_tokens=own(self.hit_tokens),
            predicted_p50=own(self.predicted_p50),
            predicted_p90=own(self.predicted_p90),
            preemption_count=own(self.preemption_count),
            lost_tokens=own(self.lost_tokens),
            gap_us=own(self.gap_us),
            attempt_count=own(self.attempt_count),
            deadline_us=workload.deadline_us,
        )

    @staticmethod
    def _int64(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values, dtype=np.int64)
