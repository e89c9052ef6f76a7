"""Router: which instance a request goes to."""

from forebay.scheduler.policy.router.aibrix_vtc import AibrixVtc
from forebay.scheduler.policy.router.autellix import Autellix
from forebay.scheduler.policy.router.base import Router
from forebay.scheduler.policy.router.chiron import Chiron
from forebay.scheduler.policy.router.dynamo_kv import DynamoKv
from forebay.scheduler.policy.router.forebay import Forebay
from forebay.scheduler.policy.router.join_shortest_tokens import JoinShortestTokens
from forebay.scheduler.policy.router.least_anticipated_peak import LeastAnticipatedPeak
from forebay.scheduler.policy.router.least_kv import LeastKv
from forebay.scheduler.policy.router.least_predicted_tokens import LeastPredictedTokens
from forebay.scheduler.policy.router.least_requests import LeastRequests
from forebay.scheduler.policy.router.llm_d import LlmD
from forebay.scheduler.policy.router.llumnix import Llumnix
from forebay.scheduler.policy.router.maps import Maps
from forebay.scheduler.policy.router.power_of_two import PowerOfTwo
from forebay.scheduler.policy.router.prefix_affinity import PrefixAffinity
from forebay.scheduler.policy.router.preserve_artifact import PreserveArtifact
from forebay.scheduler.policy.router.preserve_paper import PreservePaper
from forebay.scheduler.policy.router.qlm import Qlm
from forebay.scheduler.policy.router.round_robin import RoundRobin
from forebay.scheduler.policy.router.sageserve import SageServe
from forebay.scheduler.policy.router.session_affinity import SessionAffinity

ROUTERS: dict[str, type[Router]] = {
    "aibrix_vtc": AibrixVtc,
    "autellix": Autellix,
    "dynamo_kv": DynamoKv,
    "forebay": Forebay,
    "chiron": Chiron,
    "join_shortest_tokens": JoinShortestTokens,
    "least_anticipated_peak": LeastAnticipatedPeak,
    "least_kv": LeastKv,
    "least_predicted_tokens": LeastPredictedTokens,
    "least_requests": LeastRequests,
    "llm_d": LlmD,
    "llumnix": Llumnix,
    "maps": Maps,
    "power_of_two": PowerOfTwo,
    "prefix_affinity": PrefixAffinity,
    "preserve_artifact": PreserveArtifact,
    "preserve_paper": PreservePaper,
    "qlm": Qlm,
    "round_robin": RoundRobin,
    "sageserve": SageServe,
    "session_affinity": SessionAffinity,
}
