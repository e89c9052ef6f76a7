"""Which replica of the scheduler a model belongs to."""

import hashlib


class Replicas:
    """The replicas that are linked, and whose each model is by rendezvous hashing.

    The owner is the replica with the highest hash of model and replica together (Thaler and Ravishankar, 1998): when
    one comes or goes only the models change hands that become its own or were. Gateways that see the same replicas
    agree without a word.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._owners: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    @property
    def names(self) -> tuple[str, ...]:
        """The replicas that are linked, by name."""
        return self._names

    def add(self, name: str) -> None:
        """A replica's stream opened."""
        self._set({*self._names, name})

    def remove(self, name: str) -> None:
        """A replica's stream broke."""
        self._set(set(self._names) - {name})

    def owner(self, model: str) -> str:
        """Whose the model is; there must be a replica."""
        found = self._owners.get(model)
        if found is None:
            found = self._owners[model] = max(self._names, key=lambda name: (_weight(model, name), name))
        return found

    def _set(self, names: set[str]) -> None:
        self._names = tuple(sorted(names))
        self._owners.clear()


def _weight(model: str, name: str) -> bytes:
    return hashlib.blake2b(f"{name}\0{model}".encode(), digest_size=8).digest()
