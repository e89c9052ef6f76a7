"""Policies of other packages join those in the tree and never replace one."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from forebay.core.errors import ConfigError
from forebay.plugins import GROUP, choose, with_plugins


@dataclass(frozen=True)
class Fixed:
    cap: int = 3


TREE: dict[str, type[object]] = {"fixed": Fixed}
THEIRS = EntryPoint("router.theirs", "collections:OrderedDict", GROUP)


def test_an_installed_policy_joins_its_kind_only() -> None:
    assert set(with_plugins("router", TREE, [THEIRS])) == {"fixed", "theirs"}
    assert set(with_plugins("orderer", TREE, [THEIRS])) == {"fixed"}


def test_a_taken_name_fails() -> None:
    with pytest.raises(ConfigError, match="is taken"):
        with_plugins("router", TREE, [EntryPoint("router.fixed", "collections:OrderedDict", GROUP)])


@pytest.mark.parametrize("target", ["nowhere_at_all:Policy", "collections:Nothing"])
def test_a_package_that_cannot_be_loaded_fails_by_name(target: str) -> None:
    with pytest.raises(ConfigError, match=r"'router.bad' cannot be loaded"):
        with_plugins("router", TREE, [EntryPoint("router.bad", target, GROUP)])


def test_a_policy_takes_its_fields_as_parameters() -> None:
    assert choose("router", "fixed", TREE, {"cap": 9}) == Fixed(9)


def test_an_unknown_policy_or_parameter_says_what_there_is() -> None:
    with pytest.raises(ConfigError, match="unknown router 'fxed'; known: fixed"):
        choose("router", "fxed", TREE, {})
    with pytest.raises(ConfigError, match="does not take"):
        choose("router", "fixed", TREE, {"cup": 9})
