"""What an emulated Triton is told: its models, how long they take to start, and how fast its time runs."""

import math
from dataclasses import dataclass, field, replace

from forebay.core.instance import EngineFlags, EngineProfile, flags_of
from forebay.core.instance.batcher import make_batcher

WEIGHT_BYTES_PER_S = 2_000_000_000
"""Speed at which weights are read where nobody measured it."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of the repository: its engine's profile, limits, batcher and flags, as of `core.instance.EngineFlags`.

    `batcher` is a name, which parameters may follow (`core.instance.batcher.make_batcher`).
    `profile` is GPU/MODEL/tpN of the catalog, or the path of a profile file, whose limits a spec can only narrow.
    0 means: the profile's own figure for `kv_tokens`, and as much as fits the KV cache for `model_tokens_max`, the
    longest prompt plus answer.
    """

    name: str
    profile: str = "A100-80G/Llama-3-8B/tp1"
    max_seqs: int = 256
    max_batch_tokens: int = 2048
    block_size: int = 16
    kv_tokens: int = 0
    model_tokens_max: int = 8192
    reserve_full_prompt: bool = True
    watermark_blocks: int = 0
    no_evict: bool = False
    chunked_prefill: bool = True
    batcher: str = "chunked_prefill"
    order: str = "fcfs"
    preemption: str = "recompute"
    swap_gb_per_s: int = 16
    swap_overlaps: bool = False
    batch_padding: bool = False
    batch_answers_wait: bool = False
    batch_delay_us: int = 0
    batch_given: bool = False

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"model name {self.name!r} must not be empty or contain a slash")
        if self.kv_tokens < 0 or self.model_tokens_max < 0:
            raise ValueError("kv_tokens and model_tokens_max must not be negative")
        if self.swap_gb_per_s < 0:
            raise ValueError("swap_gb_per_s must not be negative")
        make_batcher(self.batcher)
        if self.batch_given and self.batcher != "static":
            raise ValueError(f"with batch_given the batcher must be static, not {self.batcher!r}")
        flags_of(self)

    def flags(self, profile: EngineProfile, model_tokens_max: int) -> EngineFlags:
        """How the model's engine admits and evicts, for requests up to `model_tokens_max`.

        Raises ValueError where caches are swapped and `profile` does not say how large they are.
        """
        return replace(flags_of(self, profile), model_tokens_max=model_tokens_max)


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Durations of the phases before the first request, in emulated seconds; `weights_s` < 0 is by the model's size.

    The first three pass once when the server starts, the weights with every load of a model.
    """

    provisioning_s: float = 0.0
    image_s: float = 0.0
    runtime_s: float = 0.0
    weights_s: float = 0.0

    def __post_init__(self) -> None:
        if min(self.provisioning_s, self.image_s, self.runtime_s) < 0:
            raise ValueError("durations of cold-start phases must not be negative")

    def load_s(self, weight_bytes: int) -> float:
        """How long loading `weight_bytes` on each GPU takes."""
        return self.weights_s if self.weights_s >= 0 else weight_bytes / WEIGHT_BYTES_PER_S


@dataclass(frozen=True, slots=True)
class Lengths:
    """Log-normal distribution of the answers that no answers file knows, in tokens."""

    median_tokens: float = 150.0
    sigma: float = 0.9

    def __post_init__(self) -> None:
        if self.median_tokens < 1 or self.sigma < 0:
            raise ValueError("median_tokens must be at least 1 and sigma not negative")


@dataclass(frozen=True, slots=True)
class Config:
    """One emulated server.

    `models` are loaded at the start, `available` only on request. `time_scale` is emulated seconds a second.
    `coalesce_us` is the shortest time between two responses of a model's requests: tokens in between travel together.
    """

    models: tuple[ModelSpec, ...] = ()
    available: tuple[ModelSpec, ...] = ()
    host: str = "127.0.0.1"
    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002
    time_scale: float = 1.0
    coalesce_us: int = 5_000
    exit_timeout_s: float = 30.0
    cold_start: ColdStart = field(default_factory=ColdStart)
    lengths: Lengths = field(default_factory=Lengths)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.time_scale) and 0.001 <= self.time_scale <= 10_000):
            raise ValueError(f"time_scale must be between 0.001 and 10000, got {self.time_scale}")
        if self.coalesce_us < 0 or self.exit_timeout_s < 0:
            raise ValueError("coalesce_us and exit_timeout_s must not be negative")
        names = [spec.name for spec in (*self.models, *self.available)]
        if len(set(names)) < len(names):
            raise ValueError(f"each model may be named once: {', '.join(names)}")
