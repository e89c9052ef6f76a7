"""What runs in an engine's next iteration."""

from forebay.core.instance.batcher.base import Batcher, BatchPlan, BatchView, ChunkPlan, SequenceView
from forebay.core.instance.batcher.chunked_prefill import ChunkedPrefill

BATCHERS: dict[str, type[Batcher]] = {
    "chunked_prefill": ChunkedPrefill,
}

__all__ = ["BATCHERS", "BatchPlan", "BatchView", "Batcher", "ChunkPlan", "ChunkedPrefill", "SequenceView"]
