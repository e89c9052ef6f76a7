"""Whose a model is among replicas of the scheduler."""

from hypothesis import given
from hypothesis import strategies as st

from forebay.gateway.replicas import Replicas

NAMES = st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=6)
MODELS = [f"model-{number}" for number in range(60)]


def linked(names: set[str]) -> Replicas:
    replicas = Replicas()
    for name in names:
        replicas.add(name)
    return replicas


def test_without_a_link_there_is_none() -> None:
    assert not Replicas()


def test_one_replica_has_all_models() -> None:
    assert {linked({"a"}).owner(model) for model in MODELS} == {"a"}


def test_models_are_spread_over_all() -> None:
    owners = [linked({"a", "b", "c", "d"}).owner(model) for model in MODELS]
    assert min(owners.count(name) for name in "abcd") >= 5


@given(NAMES, st.text(min_size=1, max_size=8))
def test_a_replica_that_comes_takes_models_for_itself_only(names: set[str], newcomer: str) -> None:
    replicas = linked(names)
    before = {model: replicas.owner(model) for model in MODELS}
    replicas.add(newcomer)
    assert all(replicas.owner(model) in (before[model], newcomer) for model in MODELS)
    if newcomer not in names:
        replicas.remove(newcomer)
        assert {model: replicas.owner(model) for model in MODELS} == before


@given(NAMES)
def test_the_order_in_which_they_come_does_not_matter(names: set[str]) -> None:
    forwards, backwards = Replicas(), Replicas()
    for name in sorted(names):
        forwards.add(name)
    for name in sorted(names, reverse=True):
        backwards.add(name)
    assert [forwards.owner(model) for model in MODELS] == [backwards.owner(model) for model in MODELS]
