"""The timing and memory of a model's engine: computed from the catalog, or read from a profile file."""

from dataclasses import replace
from pathlib import Path

from forebay.core.instance import EngineProfile, compute_profile, parse_profile_name
from forebay.core.instance.document import SUFFIX, from_text, narrowed
from forebay.emulator.config import ModelSpec


def compute(spec: ModelSpec) -> EngineProfile:
    """The profile of `spec` under its limits; raises ValueError for one that cannot be, or a file that is not right."""
    if spec.profile.endswith(SUFFIX):
        return narrowed(_read(spec.profile), spec.max_seqs, spec.max_batch_tokens, spec.kv_tokens)
    gpu, model, tp = parse_profile_name(spec.profile)
    return compute_profile(
        gpu,
        model,
        tp,
        max_seqs=spec.max_seqs,
        max_batch_tokens=spec.max_batch_tokens,
        block_size=spec.block_size,
        kv_tokens=spec.kv_tokens or None,
    )


def effective(spec: ModelSpec, profile: EngineProfile) -> ModelSpec:
    """`spec` with the limits of a profile file in their place, for all who ask the model what it can hold."""
    if not spec.profile.endswith(SUFFIX):
        return spec
    return replace(
        spec,
        max_seqs=profile.max_seqs,
        max_batch_tokens=profile.max_batch_tokens,
        block_size=profile.block_size,
        kv_tokens=profile.kv_tokens,
    )


def _read(path: str) -> EngineProfile:
    try:
        return from_text(Path(path).read_text())[0]
    except OSError as error:
        raise ValueError(f"profile {path}: {error.strerror}; forebay calibrate --output writes one") from error
    except ValueError as error:
        raise ValueError(f"profile {path}: {error}") from error
