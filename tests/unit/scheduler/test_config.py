import pytest

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.core.values import SloClass
from forebay.scheduler.config import Config
from forebay.scheduler.policy import KINDS, Kinds, build
from forebay.scheduler.policy.admission.token_budget import TokenBudget
from forebay.scheduler.policy.router.power_of_two import PowerOfTwo


def test_the_defaults_build() -> None:
    policies = build(Config())
    assert policies.names == {
        "admission": "open",
        "orderer": "fcfs",
        "router": "least_predicted_tokens",
        "puller": "fixed_cap",
        "grouper": "magnus",
        "planner": "none",
        "rescheduler": "none",
    }


def test_parameters_reach_their_policy() -> None:
    table = {
        "router": "power_of_two",
        "router_parameters": {"seed": 5},
        "admission": "token_budget",
        "admission_parameters": {"tokens_max": 9, "retry_delay_s": 2},
    }
    policies = build(from_mapping(Config, table, "scheduler"))
    assert policies.router == PowerOfTwo(5)
    assert policies.admission == TokenBudget(9, 2.0)


def test_a_policy_of_another_package_is_built_like_one_of_the_tree() -> None:
    kinds: Kinds = {**KINDS, "router": {"mine": PowerOfTwo}}
    assert build(Config(router="mine"), kinds).names["router"] == "mine"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"router": "pwoer_of_two"}, "unknown router 'pwoer_of_two'.*power_of_two"),
        ({"router": "power_of_two", "router_parameters": {"sede": 1}}, "did you mean 'seed'"),
        ({"router": "power_of_two", "router_parameters": {"_draws": 1}}, "unknown key '_draws'"),
        ({"puller_parameters": {"count": -1}}, "count must not be negative"),
        ({"lease_ttl_s": 0.5}, "lease_ttl_s"),
        ({"held_count_max": 0}, "held_count_max must be positive"),
        ({"retry_delay_max_s": 0.1}, "retry_delay_max_s"),
        ({"predictor_batch_count_max": 5_000}, "predictor_batch_count_max"),
        ({"watch_interval_s": 0.01}, "watch_interval_s"),
        ({"resume_grace_s": -1.0}, "resume_grace_s"),
    ],
)
def test_a_mistake_is_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(from_mapping(Config, table, "scheduler"))


def test_each_class_has_its_own_hold() -> None:
    holds = [Config().hold_timeout_us(slo_class) for slo_class in SloClass]
    assert holds == [5_000_000, 60_000_000, 300_000_000]
