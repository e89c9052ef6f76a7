"""The instance model: how one LLM engine spends its time, shared by simulator and emulator."""

from forebay.core.instance.catalog import GPUS, MODELS, compute_profile, parse_profile_name
from forebay.core.instance.instance import Instance, InstanceView
from forebay.core.instance.profile import NS, PS, US, EngineProfile, PrefillChunk
from forebay.core.instance.sequence import EngineFlags, InferenceRequest, TokenEvent

__all__ = [
    "GPUS",
    "MODELS",
    "NS",
    "PS",
    "US",
    "EngineFlags",
    "EngineProfile",
    "InferenceRequest",
    "Instance",
    "InstanceView",
    "PrefillChunk",
    "TokenEvent",
    "compute_profile",
    "parse_profile_name",
]
