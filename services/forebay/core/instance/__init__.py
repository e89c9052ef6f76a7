"""The instance model: how one LLM engine spends its time, shared by simulator and emulator."""

from forebay.core.instance.catalog import GPUS, MODELS, compute_profile, parse_profile_name
from forebay.core.instance.habits import flags_of
from forebay.core.instance.instance import InstanceModel
from forebay.core.instance.profile import EngineProfile, PrefillChunk
from forebay.core.instance.sequence import ALONE, Batch, EngineFlags, EngineRequest, TokenEvent
from forebay.core.instance.view import EngineView

__all__ = [
    "ALONE",
    "GPUS",
    "MODELS",
    "Batch",
    "EngineFlags",
    "EngineProfile",
    "EngineRequest",
    "EngineView",
    "InstanceModel",
    "PrefillChunk",
    "TokenEvent",
    "compute_profile",
    "flags_of",
    "parse_profile_name",
]
