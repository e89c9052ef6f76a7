"""Finds models, opens them off the event loop and makes them the ones that answer."""

import asyncio
import logging
from collections.abc import Callable
from typing import TypeAlias

from forebay.core.errors import FailedPrecondition, ForebayError, NotFound
from forebay.core.prediction import ModelKind, PredictorModel
from forebay.predictor.engine import Loaded, PredictorEngine, label
from forebay.predictor.policy.length import LengthPredictor
from forebay.predictor.store import ModelStore

log = logging.getLogger(__name__)

Opener: TypeAlias = Callable[[PredictorModel, bytes], Loaded[LengthPredictor]]
"""Makes a predictor of a model's description and content. Raises FailedPrecondition when it cannot be loaded."""


class Loader:
    """The loaded models and those that are only stored, seen as one list."""

    def __init__(self, engine: PredictorEngine, store: ModelStore, opener: Opener) -> None:
        self._engine = engine
        self._store = store
        self._opener = opener
        self._lock = asyncio.Lock()

    async def models(self) -> list[PredictorModel]:
        """All models by kind, name and version; of a loaded one, what its session says."""
        loaded = self._engine.models()
        known = {(model.kind, label(model)) for model in loaded}
        stored = await asyncio.to_thread(self._store.list)
        found = [*loaded, *(model for model in stored if (model.kind, label(model)) not in known)]
        return sorted(found, key=_order)

    async def activate(self, kind: ModelKind, name: str, version: str) -> PredictorModel:
        """Makes a model answer its kind, loading it first where it is only stored; no version means the newest.

        Raises NotFound for an unknown model and FailedPrecondition when it cannot be loaded.
        """
        async with self._lock:
            wanted = _choose(await self.models(), kind, name, version)
            await self._load(wanted)
            model = self._engine.on_activate(kind, label(wanted))
            await self._keep(kind, label(model))
            return model

    async def resume(self, name: str) -> None:
        """Makes the length model of this name answer that did so last, with the one before ready for a roll-back.

        Those that cannot be loaded give way to the one that answered before them, then to the newest that can be; where
        there is none, everything stays as it is. Each is named in a warning.
        """
        kept = await asyncio.to_thread(self._store.chosen, ModelKind.LENGTH)
        versions = [version for one, _, version in (label.partition("@") for label in kept) if one == name and version]
        resumed: list[str] = []
        for version in versions:
            if len(resumed) < 2:
                resumed += await self._tried(name, version)
        others = [
            model.version for model in await self.models() if model.kind is ModelKind.LENGTH and model.name == name
        ]
        for version in reversed(others):
            resumed = resumed or await self._tried(name, version)
        if not resumed:
            log.warning("no trained model answers", extra={"fields": {"model": name}})
        for version in reversed(resumed):
            await self.activate(ModelKind.LENGTH, name, version)

    async def note_active(self) -> None:
        """Keeps which length model answers now, after the engine changed it by itself."""
        async with self._lock:
            await self._keep(ModelKind.LENGTH, self._engine.length.label)

    async def shadow(self, name: str, version: str) -> PredictorModel:
        """Measures a length model beside the active one, loading it first where it is only stored.

        Raises NotFound for an unknown model and FailedPrecondition when it cannot be loaded or measured.
        """
        async with self._lock:
            wanted = _choose(await self.models(), ModelKind.LENGTH, name, version)
            await self._load(wanted)
            return self._engine.on_shadow(label(wanted))

    async def end_shadow(self, name: str, version: str) -> PredictorModel:
        """Ends the measuring; without a version of the model of this name that is a shadow. Raises NotFound."""
        async with self._lock:
            models = await self.models()
            shadows = [model for model in models if model.shadow and not version]
            is_one = any(model.name == name for model in shadows)
            wanted = _choose(shadows if is_one else models, ModelKind.LENGTH, name, version)
            return self._engine.on_shadow_end(label(wanted)) if wanted.shadow else wanted

    async def rollback(self, kind: ModelKind) -> PredictorModel:
        """Makes the model answer that did so before. Raises FailedPrecondition where none did."""
        async with self._lock:
            model = self._engine.on_rollback(kind)
            await self._keep(kind, label(model))
            return model

    async def _tried(self, name: str, version: str) -> list[str]:
        """Loads a length model: its version, or nothing and a warning where that cannot be."""
        try:
            async with self._lock:
                wanted = _choose(await self.models(), ModelKind.LENGTH, name, version)
                await self._load(wanted)
                return [wanted.version]
        except (FailedPrecondition, NotFound) as error:
            log.warning("a trained model cannot be loaded", extra={"fields": {"model": name, "error": error.message}})
            return []

    async def _keep(self, kind: ModelKind, chosen: str) -> None:
        """Keeps the choice for the next start; where that fails it answers all the same."""
        try:
            before = await asyncio.to_thread(self._store.chosen, kind)
            labels = (chosen, *(one for one in before if one != chosen))
            if labels != before:
                await asyncio.to_thread(self._store.choose, kind, labels)
        except ForebayError as error:
            log.warning("the choice of a model is not kept", extra={"fields": {"error": error.message}})

    async def _load(self, wanted: PredictorModel) -> None:
        if not self._engine.is_loaded(wanted.kind, label(wanted)):
            content = await asyncio.to_thread(self._store.read, wanted)
            self._engine.on_loaded(await asyncio.to_thread(self._opener, wanted, content))


def _choose(models: list[PredictorModel], kind: ModelKind, name: str, version: str) -> PredictorModel:
    named = [model for model in models if model.kind is kind and model.name == name]
    fitting = [model for model in named if version in ("", model.version)]
    if not fitting:
        known = ", ".join(label(model) for model in models if model.kind is kind)
        wanted = f"{name}@{version}" if version else name
        raise NotFound(f"there is no {kind.name.lower()} model {wanted!r}; known: {known}")
    return fitting[-1]


def _order(model: PredictorModel) -> tuple[int, str, int, str]:
    number = int(model.version) if model.version.isdecimal() else 0
    return model.kind, model.name, number, model.version
