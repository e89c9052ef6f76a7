"""Names what is decided and keeps its record."""

from forebay.core.scheduling import Decision, Rejected, Retry, Verdict
from forebay.scheduler.config import Config
from forebay.scheduler.decisions import Batch, Counts, Record, Records, Sight
from forebay.scheduler.explain import explain
from forebay.scheduler.policy import Policies
from forebay.scheduler.policy.admission.base import Later
from forebay.scheduler.policy.router.base import Route
from forebay.scheduler.queue import Held
from forebay.scheduler.shadows import Others


class Ledger:
    """Numbers leases and decisions under one prefix and writes a record for each answer."""

    def __init__(self, config: Config, policies: Policies, prefix: str) -> None:
        self._names = policies.names
        self._prefix = prefix
        self._records = Records(config.decision_count_max, config.decision_bytes_max)
        self._sequence = 0

    def next_name(self, kind: str) -> str:
        """A name that this scheduler gives once."""
        self._sequence += 1
        return f"{self._prefix}-{kind}{self._sequence}"

    def placed(
        self,
        held: Held,
        sight: Sight,
        route: Route,
        counts: Counts,
        now_us: int,
        others: Others = (),
        batch: Batch | None = None,
    ) -> str:
        """Records a placement, with where shadows would have gone, and gives the decision's id."""
        return self._add(held, Verdict.PLACED, counts, now_us, sight, route, "", others, batch)

    def rejected(self, held: Held, reason: str, message: str, counts: Counts, now_us: int) -> Rejected:
        """Records a final no."""
        decision_id = self._add(held, Verdict.REJECTED, counts, now_us, text=f"{reason}: {message}")
        return Rejected(held.request.request_id, reason, message, decision_id)

    def retry(self, held: Held, sight: Sight | None, said: Later, counts: Counts, now_us: int) -> Retry:
        """Records a no for now, with the instances as they were seen."""
        decision_id = self._add(held, Verdict.RETRY, counts, now_us, sight, text=f"{said.reason}: {said.message}")
        return Retry(held.request.request_id, said.reason, said.message, said.retry_delay_us, decision_id)

    def explain(self, decision_id: str) -> Decision | None:
        """The decision, if its record is still kept."""
        record = self._records.get(decision_id)
        return explain(record, self._names) if record else None

    def _add(
        self,
        held: Held,
        verdict: Verdict,
        counts: Counts,
        now_us: int,
        sight: Sight | None = None,
        route: Route | None = None,
        text: str = "",
        others: Others = (),
        batch: Batch | None = None,
    ) -> str:
        request = held.request
        # By position, as everything that is made for each request: names take half as long again.
        record = Record(
            self.next_name("d"),
            request.request_id,
            request.model,
            now_us,
            verdict,
            request.prompt_tokens,
            held.tokens_max,
            request.slo_class,
            now_us - held.arrived_us,
            counts,
            held.quantiles,
            held.predicted_by,
            sight,
            route,
            text,
            others,
            batch,
        )
        self._records.add(record)
        return record.decision_id
