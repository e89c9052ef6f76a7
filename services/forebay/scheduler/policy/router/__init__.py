"""Router: which instance a request goes to."""

from forebay.scheduler.policy.router.base import Router
from forebay.scheduler.policy.router.join_shortest_tokens import JoinShortestTokens
from forebay.scheduler.policy.router.least_kv import LeastKv
from forebay.scheduler.policy.router.least_predicted_tokens import LeastPredictedTokens
from forebay.scheduler.policy.router.least_requests import LeastRequests
from forebay.scheduler.policy.router.llm_d import LlmD
from forebay.scheduler.policy.router.power_of_two import PowerOfTwo
from forebay.scheduler.policy.router.round_robin import RoundRobin
from forebay.scheduler.policy.router.sageserve import SageServe

ROUTERS: dict[str, type[Router]] = {
    "join_shortest_tokens": JoinShortestTokens,
    "least_kv": LeastKv,
    "least_predicted_tokens": LeastPredictedTokens,
    "least_requests": LeastRequests,
    "llm_d": LlmD,
    "power_of_two": PowerOfTwo,
    "round_robin": RoundRobin,
    "sageserve": SageServe,
}
