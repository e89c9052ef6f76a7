"""The rows as requests: what each engine may know of them. Only what an instance is given holds the true length."""

from itertools import accumulate

from forebay.core.prompts import excerpt
from forebay.core.values import InferenceRequest, SloClass
from forebay.simulator.workload.base import Workload

HASH_MASK = 2**64 - 1


class Requests:
    """The workload's columns as plain lists, and the request that each row becomes.

    `served_tokens` is how long the answer gets: the true length, cut at the client's limit.
    """

    def __init__(self, workload: Workload, prompt_head_bytes: int) -> None:
        self.prompt_tokens: list[int] = workload.prompt_tokens.tolist()
        self.tokens_max: list[int] = workload.output_tokens_max.tolist()
        self.true_tokens: list[int] = workload.output_tokens.tolist()
        limits = zip(self.true_tokens, self.tokens_max, strict=True)
        self.served_tokens: list[int] = [min(true, most) if most else true for true, most in limits]
        self.regions = [workload.regions[index] for index in workload.region.tolist()]
        self._workload = workload
        self._models = [workload.models[index] for index in workload.model.tolist()]
        self._classes = [SloClass(number) for number in workload.slo_class.tolist()]
        self._tenants = [workload.tenants[index] for index in workload.tenant.tolist()]
        self._applications = [workload.applications[index] for index in workload.application.tolist()]
        self._deadlines_us: list[int] = workload.deadline_us.tolist()
        self._sessions = [f"p{program}" if program >= 0 else "" for program in workload.program.tolist()]
        self._block_starts: list[int] = workload.block_start.tolist() if len(workload.blocks) else []
        self._texts: list[int] = workload.text.tolist()
        self._head_bytes = prompt_head_bytes

    def is_cut(self, row: int) -> bool:
        """Whether the answer ends at the client's limit instead of where the model would have ended it."""
        return self.served_tokens[row] < self.true_tokens[row]

    def request(self, row: int, request_id: str) -> InferenceRequest:
        """The row as gateway, scheduler and predictor see it."""
        return InferenceRequest(
            request_id=request_id,
            model=self._models[row],
            prompt_tokens=self.prompt_tokens[row],
            slo_class=self._classes[row],
            tokens_max=self.tokens_max[row],
            tenant=self._tenants[row],
            application=self._applications[row],
            prompt_head=self._head(self._texts[row]),
            region=self.regions[row],
            hold_timeout_us=self._deadlines_us[row],
            session=self._sessions[row],
            deadline_us=self._deadlines_us[row],
            prefix_hashes=self._prefix(row),
        )

    def _prefix(self, row: int) -> tuple[int, ...]:
        """What names the prompt's blocks together with all before them."""
        if not self._block_starts:
            return ()
        blocks: list[int] = self._workload.blocks[self._block_starts[row] : self._block_starts[row + 1]].tolist()
        # Tuples of integers have the same hash in every process; the first value is 0, as there is nothing before.
        chain = accumulate(blocks, lambda before, block: hash((before, block)) & HASH_MASK, initial=0)
        return tuple(chain)[1:]

    def _head(self, text: int) -> str:
        if text < 0:
            return ""
        return excerpt(self._workload.texts[text], self._head_bytes)
