"""Reads from a model's Triton configuration what its engine can hold."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from forebay.autoscaler.life import Figures
from forebay.core.instance.catalog import compute_profile, parse_profile_name
from forebay.core.values import Batching

CONCURRENCY = ("max_seqs", "slots", "max_num_seqs")
CONTEXT = ("model_tokens_max", "context_tokens_per_slot", "max_model_len")
"""Names of parameters: the emulator's, those of compose/triton/models, and vLLM's own."""


def figures_of(parameters: Mapping[str, str]) -> Figures:
    """The figures that a model's parameters tell; 0 and empty where they do not."""
    profile = parameters.get("profile", "")
    concurrency_max, context_tokens_max = _first(parameters, CONCURRENCY), _first(parameters, CONTEXT)
    kv_tokens_max = _number(parameters.get("kv_tokens", "")) or _kv_tokens(profile)
    if not kv_tokens_max and "slots" in parameters:
        # A slot has a cache of its own for its whole context.
        kv_tokens_max = concurrency_max * context_tokens_max
    return Figures(concurrency_max, kv_tokens_max, context_tokens_max, profile, _batching(parameters))


def _batching(parameters: Mapping[str, str]) -> Batching:
    """Static where the engine runs the batches that it is given: so says the emulator, or a model of compose/triton."""
    is_static = parameters.get("batch_given") == "true" or parameters.get("batching") == "static"
    return Batching.STATIC if is_static else Batching.CONTINUOUS


def _first(parameters: Mapping[str, str], names: Sequence[str]) -> int:
    return next((number for name in names if (number := _number(parameters.get(name, "")))), 0)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _kv_tokens(profile: str) -> int:
    with suppress(ValueError, KeyError):
        return compute_profile(*parse_profile_name(profile)).kv_tokens
    return 0
