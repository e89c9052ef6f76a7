"""All in-tree policies that choose the size of a model's fleet."""

from collections.abc import Mapping

from forebay.autoscaler.policy.autoscaler.aibrix_apa import AibrixApa
from forebay.autoscaler.policy.autoscaler.aibrix_kpa import AibrixKpa
from forebay.autoscaler.policy.autoscaler.base import Autoscaler
from forebay.autoscaler.policy.autoscaler.chiron import Chiron
from forebay.autoscaler.policy.autoscaler.dynamo import Dynamo
from forebay.autoscaler.policy.autoscaler.forebay import Forebay
from forebay.autoscaler.policy.autoscaler.hpa_ratio import HpaRatio
from forebay.autoscaler.policy.autoscaler.kpa import Kpa
from forebay.autoscaler.policy.autoscaler.llumnix_band import LlumnixBand
from forebay.autoscaler.policy.autoscaler.preserve_artifact import PreserveArtifact
from forebay.autoscaler.policy.autoscaler.preserve_paper import PreservePaper
from forebay.autoscaler.policy.autoscaler.ray_serve import RayServe
from forebay.autoscaler.policy.autoscaler.reactive import Reactive
from forebay.autoscaler.policy.autoscaler.sageserve import LtI, LtU, LtUa
from forebay.autoscaler.policy.autoscaler.scheduled import Scheduled
from forebay.autoscaler.policy.autoscaler.static import Static
from forebay.autoscaler.policy.autoscaler.wva import Wva

AUTOSCALERS: Mapping[str, type[Autoscaler]] = {
    "static": Static,
    "scheduled": Scheduled,
    "hpa_ratio": HpaRatio,
    "kpa": Kpa,
    "aibrix_apa": AibrixApa,
    "aibrix_kpa": AibrixKpa,
    "ray_serve": RayServe,
    "dynamo": Dynamo,
    "wva": Wva,
    "llumnix_band": LlumnixBand,
    "chiron": Chiron,
    "preserve_paper": PreservePaper,
    "preserve_artifact": PreserveArtifact,
    "reactive": Reactive,
    "sageserve_lt_i": LtI,
    "sageserve_lt_u": LtU,
    "sageserve_lt_ua": LtUa,
    "forebay": Forebay,
}
