"""All in-tree policies that choose the size of a model's fleet."""

from collections.abc import Mapping

from forebay.autoscaler.policy.autoscaler.base import Autoscaler
from forebay.autoscaler.policy.autoscaler.hpa_ratio import HpaRatio
from forebay.autoscaler.policy.autoscaler.kpa import Kpa
from forebay.autoscaler.policy.autoscaler.static import Static

AUTOSCALERS: Mapping[str, type[Autoscaler]] = {
    "static": Static,
    "hpa_ratio": HpaRatio,
    "kpa": Kpa,
}
