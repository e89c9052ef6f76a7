"""What instances remember: who last served a session, and which beginnings of prompts lie in which cache."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Collection, Sequence

import numpy as np

from forebay.core.values import InferenceRequest
from forebay.scheduler.policy.router.base import KV_TOKENS_UNKNOWN, Ints

SESSIONS_MAX = 100_000
"""Sessions of a model that are remembered; of more, those that were not heard of for longest are forgotten."""


class Affinity:
    """What the instances of one model are thought to have in their caches, from what was sent to them.

    Nobody tells what an engine evicts: it is taken to keep the blocks used last that fit into its key-value cache, as
    prefix caches do that evict what was not used for longest.
    """

    def __init__(self) -> None:
        self._homes: OrderedDict[str, str] = OrderedDict()
        self._holders: dict[int, set[str]] = {}
        self._blocks: dict[str, OrderedDict[int, None]] = {}

    def note(self, request: InferenceRequest, instance_id: str, kv_tokens_max: int) -> None:
        """The request goes to the instance, of whose cache that is the size in tokens (0: unknown)."""
        if request.session:
            self._homes[request.session] = instance_id
            self._homes.move_to_end(request.session)
            if len(self._homes) > SESSIONS_MAX:
                self._homes.popitem(last=False)
        if request.prefix_hashes:
            self._remember(request, instance_id, (kv_tokens_max or KV_TOKENS_UNKNOWN) // block_tokens(request))

    def home(self, session: str, instance_ids: Sequence[str]) -> int:
        """Index of the instance that last served the session; -1 where none of these did. The ids are sorted."""
        instance_id = self._homes.get(session)
        if instance_id is None:
            return -1
        index = bisect_left(instance_ids, instance_id)
        return index if index < len(instance_ids) and instance_ids[index] == instance_id else -1

    def prefix_tokens(self, request: InferenceRequest, instance_ids: Sequence[str]) -> Ints:
        """Tokens at the beginning of the prompt that each instance is thought to have in its cache."""
        found, size = dict.fromkeys(instance_ids, 0), block_tokens(request)
        holders: set[str] | None = None
        for count, block in enumerate(request.prefix_hashes, start=1):
            have = self._holders.get(block, set())
            holders = set(have) if holders is None else holders & have
            if not holders:
                break
            for instance_id in holders & found.keys():
                found[instance_id] = min(count * size, request.prompt_tokens)
        tokens = np.fromiter(found.values(), dtype=np.int64, count=len(found))
        tokens.setflags(write=False)
        return tokens

    def keep(self, instance_ids: Collection[str]) -> None:
        """Forgets what instances had that are gone; sessions find another home when they come again."""
        for instance_id in self._blocks.keys() - set(instance_ids):
            for block in self._blocks.pop(instance_id):
                self._drop(block, instance_id)

    def _remember(self, request: InferenceRequest, instance_id: str, block_count_max: int) -> None:
        blocks = self._blocks.setdefault(instance_id, OrderedDict())
        for block in request.prefix_hashes:
            blocks[block] = None
            blocks.move_to_end(block)
            self._holders.setdefault(block, set()).add(instance_id)
        while len(blocks) > block_count_max:
            self._drop(blocks.popitem(last=False)[0], instance_id)

    def _drop(self, block: int, instance_id: str) -> None:
        holders = self._holders[block]
        holders.discard(instance_id)
        if not holders:
            del self._holders[block]


def block_tokens(request: InferenceRequest) -> int:
    """Tokens of a block of the prompt, of which the last may be partial."""
    return max(1, -(-request.prompt_tokens // len(request.prefix_hashes)))
