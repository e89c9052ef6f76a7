"""A fleet and policies fit on one line each, and mistakes in them are named."""

import pytest

from forebay.cli.scenario import parse_fleet, parse_policy
from forebay.core.errors import ConfigError

H100 = "H100/Llama-3-8B/tp1"


def test_a_group_has_a_profile_a_count_and_a_region() -> None:
    [group] = parse_fleet(f"{H100} x4 @east")
    assert (group.model, group.profile, group.region) == ("Llama-3-8B", H100, "east")
    assert (group.instances_min, group.instances_initial, group.instances_max) == (4, 4, 4)


def test_several_groups_may_have_names_and_bounds() -> None:
    first, second = parse_fleet(f"chat={H100} x2-8, A100-80G/Qwen2.5-7B/tp1")
    assert (first.model, first.instances_min, first.instances_initial, first.instances_max) == ("chat", 2, 2, 8)
    assert (second.model, second.instances_max) == ("Qwen2.5-7B", 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" , ", "is empty"),
        ("H100", "is not GPU/MODEL"),
        (f"{H100} 4", "is not [NAME=]"),
        (f"{H100} x", "is not [NAME=]"),
        (f"{H100} x0", "at least 1"),
        (f"{H100} x4-2", "at least 1"),
        ("H1000/Llama-3-8B/tp1 x2", "H1000"),
        ("H100/Llama-9/tp1 x2", "Llama-9"),
        ("H100/Llama-3-8B/tp3 x2", "tp 3"),
        (f"{H100} x2, nonsense", "nonsense"),
    ],
)
def test_a_wrong_fleet_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match="--fleet") as caught:
        parse_fleet(text)
    assert words in caught.value.message


def test_every_kind_goes_to_its_service() -> None:
    made = parse_policy(
        "router=power_of_two, router.seed=3,admission=open,autoscaler=kpa,autoscaler.window_s=30.5,length=noisy"
    )
    assert made.scheduler == {"router": "power_of_two", "router_parameters": {"seed": 3}, "admission": "open"}
    assert made.autoscaler == {"policy": "kpa", "parameters": {"window_s": 30.5}}
    assert made.predictor == {"length": "noisy"}


def test_parameters_of_predictors_stand_under_their_names() -> None:
    made = parse_policy("length.sigma=0.5,length=noisy,forecaster=seasonal")
    assert made.predictor == {"length": "noisy", "forecaster": "seasonal", "parameters": {"noisy": {"sigma": 0.5}}}


def test_without_an_autoscaler_the_fleet_stays() -> None:
    assert parse_policy("").autoscaler == {"policy": "static"}
    assert parse_policy("").name == "defaults"


def test_values_may_be_lists_and_quoted_texts() -> None:
    made = parse_policy('router=x,router.weights=[1, 2],router.name="a,b"')
    assert made.scheduler["router_parameters"] == {"weights": [1, 2], "name": "a,b"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("router", "is not KIND=NAME"),
        ("router=", "is not KIND=NAME"),
        ("ruoter=x", "no kind 'ruoter'"),
        ("length.x=1", "needs length=NAME"),
    ],
)
def test_a_wrong_policy_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match="--policy") as caught:
        parse_policy(text)
    assert words in caught.value.message
