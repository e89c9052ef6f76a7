"""What runs in an engine's next iteration."""

from forebay.core.instance.batcher.base import Batcher, BatchPlan, BatchView, ChunkPlan, SequenceView
from forebay.core.instance.batcher.chunked_prefill import ChunkedPrefill
from forebay.core.instance.batcher.static import Static

BATCHERS: dict[str, type[Batcher]] = {
    "chunked_prefill": ChunkedPrefill,
    "static": Static,
}

__all__ = ["BATCHERS", "BatchPlan", "BatchView", "Batcher", "ChunkPlan", "ChunkedPrefill", "SequenceView", "Static"]
