"""Trained models that answer prompts: what turns prompts into arrays, and the session that these are fed to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from forebay.core.errors import FailedPrecondition
from forebay.core.prediction import PredictorModel
from forebay.core.values import InferenceRequest
from forebay.predictor.lengths import features
from forebay.predictor.lengths.encoders.extractors import Magnus, Semantic, Tokens
from forebay.predictor.lengths.encoders.sentences import Encoder, open_encoder
from forebay.predictor.lengths.encoders.tokens import WordPieces
from forebay.predictor.sessions import Feeds, OnnxSession

HASHED = "hashed"


@dataclass(frozen=True, slots=True)
class Opening:
    """How sessions are opened: the execution providers to ask for and the threads that each may use."""

    providers: list[str]
    threads: int


class Extractor(Protocol):
    """Turns prompts into a model's inputs; rows do not depend on each other."""

    @property
    def version(self) -> str:
        """Changes with what is extracted; a model answers only the version that it was trained on."""
        ...

    @property
    def widths(self) -> Mapping[str, int]:
        """Columns of each input; 0 where it varies."""
        ...

    def extract(self, queries: Sequence[InferenceRequest]) -> Feeds:
        """The inputs of at least one and at most `features.BATCH_COUNT_MAX` prompts."""
        ...


class Hashed:
    """Hashed words and counts: `features.extract`."""

    version = features.FEATURES_VERSION
    widths: Mapping[str, int] = {"features": features.FEATURE_COUNT}

    def extract(self, queries: Sequence[InferenceRequest]) -> Feeds:
        """One row of features a query."""
        return {"features": features.extract(queries)}


EXTRACTORS: dict[str, Callable[[Opening], Extractor]] = {
    HASHED: lambda opening: Hashed(),
    "semantic": lambda opening: Semantic(_encoder(opening)),
    "magnus": lambda opening: Magnus(_encoder(opening)),
    "tokens": lambda opening: Tokens(WordPieces()),
}
"""By the field `features` of a model's description; one without the field is hashed.

Raise FailedPrecondition where the optional packages that they need are missing.
"""


def _encoder(opening: Opening) -> Encoder:
    return open_encoder(tuple(opening.providers), opening.threads)


class OnnxModel:
    """Tokens at the quantile levels for prompts: an extractor in front of a session."""

    def __init__(self, extractor: Extractor, session: OnnxSession) -> None:
        self._extractor = extractor
        self._session = session

    @property
    def provider(self) -> str:
        """The execution provider that runs it."""
        return self._session.provider

    def infer(self, queries: Sequence[InferenceRequest]) -> npt.NDArray[np.float64]:
        """Tokens [n, 4] as the model gives them, in batches of `features.BATCH_COUNT_MAX`. Raises PredictionFailed."""
        parts = [self._session.run(self._extractor.extract(some)) for some in _batches(queries)]
        return np.concatenate(parts, dtype=np.float64) if parts else np.empty((0, 4))

    def shown(self, queries: Sequence[InferenceRequest]) -> npt.NDArray[np.float64]:
        """As `infer`, with the columns of the input "features" after the tokens. Raises PredictionFailed."""
        parts = []
        for some in _batches(queries):
            feeds = self._extractor.extract(some)
            parts.append(np.hstack((self._session.run(feeds), feeds["features"])))
        width = 4 + self._extractor.widths["features"]
        return np.concatenate(parts, dtype=np.float64) if parts else np.empty((0, width))


@dataclass(frozen=True, slots=True)
class Showing:
    """A model whose rows also hold what it reads: tokens [4], then its one input of fixed width."""

    model: OnnxModel

    def infer(self, queries: Sequence[InferenceRequest]) -> npt.NDArray[np.float64]:
        """Tokens and features [n, 4 + width]. Raises PredictionFailed."""
        return self.model.shown(queries)


def open_trained(model: PredictorModel, content: bytes, opening: Opening) -> OnnxModel:
    """Opens a model by its description. Raises FailedPrecondition when prompts cannot become what it wants."""
    kind = model.metadata.get("features", HASHED)
    wanted = f"{model.name}@{model.version} wants features {kind!r} of version "
    if kind not in EXTRACTORS:
        raise FailedPrecondition(f"{wanted}any, but known are: {', '.join(sorted(EXTRACTORS))}; upgrade Forebay")
    extractor = EXTRACTORS[kind](opening)
    session = OnnxSession(content, opening.providers, opening.threads)
    version = model.metadata.get("features_version", "")
    if version != extractor.version or session.widths != dict(extractor.widths):
        raise FailedPrecondition(
            f"{wanted}{version or 'unknown'} and columns {session.widths}, but prompts become "
            f"{dict(extractor.widths)} of version {extractor.version}; train again with `forebay train length`"
        )
    return OnnxModel(extractor, session)


def _batches(queries: Sequence[InferenceRequest]) -> list[Sequence[InferenceRequest]]:
    step = features.BATCH_COUNT_MAX
    return [queries[start : start + step] for start in range(0, len(queries), step)]
