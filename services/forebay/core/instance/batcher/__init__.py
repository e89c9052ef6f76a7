"""What runs in an engine's next iteration."""

from dataclasses import fields

from forebay.core.instance.batcher.accelgen import AccelGen
from forebay.core.instance.batcher.alise import Alise
from forebay.core.instance.batcher.autellix import Autellix
from forebay.core.instance.batcher.base import Batcher, BatchPlan, BatchView, ChunkPlan, SequenceView
from forebay.core.instance.batcher.chunked_prefill import ChunkedPrefill
from forebay.core.instance.batcher.fastserve import FastServe
from forebay.core.instance.batcher.preemptive import Preemptive
from forebay.core.instance.batcher.sarathi import Sarathi
from forebay.core.instance.batcher.slos_serve import SlosServe
from forebay.core.instance.batcher.static import Static
from forebay.core.instance.batcher.tempo import Tempo

BATCHERS: dict[str, type[Batcher]] = {
    "accelgen": AccelGen,
    "alise": Alise,
    "autellix": Autellix,
    "chunked_prefill": ChunkedPrefill,
    "fastserve": FastServe,
    "preemptive": Preemptive,
    "sarathi": Sarathi,
    "slos_serve": SlosServe,
    "static": Static,
    "tempo": Tempo,
}


def make_batcher(text: str) -> Batcher:
    """The batcher of a name, which parameters may follow: `alise`, or `alise:queue_count=4,promote_s=2.5`.

    Raises ValueError for an unknown name, an unknown parameter, or a value that is none.
    """
    name, _, settings = text.partition(":")
    if name not in BATCHERS:
        raise ValueError(f"batcher must be one of {', '.join(BATCHERS)}, got {name!r}")
    kind = BATCHERS[name]
    known = {field.name: float if isinstance(field.default, float) else int for field in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, float] = {}
    for setting in filter(None, settings.split(",")):
        key, _, value = setting.partition("=")
        if key not in known:
            raise ValueError(f"batcher {name!r} has no parameter {key!r}; known: {', '.join(known) or 'none'}")
        try:
            values[key] = known[key](value)
        except ValueError as error:
            raise ValueError(f"batcher {name!r}: {key} must be a number, got {value!r}") from error
    return kind(**values)


__all__ = [
    "BATCHERS",
    "BatchPlan",
    "BatchView",
    "Batcher",
    "ChunkPlan",
    "ChunkedPrefill",
    "SequenceView",
    "Static",
    "make_batcher",
]
