"""Router: which instance a request goes to."""

from forebay.scheduler.policy.router.base import Router
from forebay.scheduler.policy.router.least_predicted_tokens import LeastPredictedTokens
from forebay.scheduler.policy.router.least_requests import LeastRequests
from forebay.scheduler.policy.router.power_of_two import PowerOfTwo
from forebay.scheduler.policy.router.round_robin import RoundRobin

ROUTERS: dict[str, type[Router]] = {
    "least_predicted_tokens": LeastPredictedTokens,
    "least_requests": LeastRequests,
    "power_of_two": PowerOfTwo,
    "round_robin": RoundRobin,
}
