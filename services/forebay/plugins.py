"""Third-party policies, found through the entry-point group `forebay.policies`; called by composition roots alone."""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from forebay.core.errors import ConfigError

GROUP = "forebay.policies"
T = TypeVar("T")


def with_plugins(
    kind: str, in_tree: Mapping[str, type[T]], found: Iterable[EntryPoint] | None = None
) -> dict[str, type[T]]:
    """The policies of a kind by name: those in the tree and those of installed packages (entry `<kind>.<name>`).

    Raises ConfigError for a name that is taken and for a package that cannot be loaded.
    """
    policies = dict(in_tree)
    for entry in entry_points(group=GROUP) if found is None else found:
        entry_kind, _, name = entry.name.partition(".")
        if entry_kind != kind:
            continue
        if name in policies:
            raise ConfigError(f"policy {entry.name!r} of {entry.value!r} is taken; rename it or remove the package")
        policies[name] = _load(entry)
    return policies


def choose(kind: str, name: str, policies: Mapping[str, type[T]], parameters: Mapping[str, object]) -> T:
    """Builds the named policy; its dataclass fields are its parameters.

    Raises ConfigError for an unknown name or parameter, saying which there are.
    """
    if name not in policies:
        raise ConfigError(f"unknown {kind} {name!r}; known: {', '.join(sorted(policies))}")
    try:
        return policies[name](**parameters)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{kind} {name!r} does not take {dict(parameters)}: {error}") from error


def _load(entry: EntryPoint) -> type[T]:
    try:
        loaded: type[T] = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"policy {entry.name!r} cannot be loaded from {entry.value!r}: {error}") from error
    return loaded
