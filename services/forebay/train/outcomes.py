"""The deployment's own outcomes as examples: features and lengths that the predictor kept, never prompts."""

import dataclasses
import hashlib

import numpy as np
from scipy import sparse

from forebay.core.errors import ConfigError
from forebay.predictor.lengths.examples import Example, ExampleStore, unpacked
from forebay.predictor.lengths.features import FEATURE_COUNT, FEATURES_VERSION
from forebay.train.data import Examples, Features
from forebay.train.tables import Table

COUNT_MAX = 200_000
SOURCE = "database"


def read_outcomes(store: ExampleStore, count_max: int = COUNT_MAX) -> Table:
    """The newest examples of today's features, in the order in which they came.

    `request_id` of each query is its row in `features`. Raises ConfigError where there is none.
    """
    found = store.read(FEATURES_VERSION, count_max)
    if not found:
        raise ConfigError(
            "the database has no outcomes to train on; the predictor keeps them while [predictor] examples_max is "
            "above 0, so send traffic first, or train with --data"
        )
    examples = Examples(
        queries=tuple(dataclasses.replace(one.query, request_id=str(row)) for row, one in enumerate(found)),
        tokens=np.array([one.generated_tokens for one in found], dtype=np.float64),
        sources=np.array([SOURCE] * len(found)),
        # Whose prompt is not known is like nobody else.
        groups=np.array([one.group or -1 - row for row, one in enumerate(found)], dtype=np.int64),
        censored=np.array([one.censored for one in found], dtype=np.bool_),
        features=_rows(found),
    )
    notes = (f"{len(found):,} outcomes of this deployment: features of prompts, not their text",)
    return Table(examples, np.array([""] * len(found)), {SOURCE: _digest(found)}, notes)


def _rows(found: list[Example]) -> Features:
    try:
        pairs = [unpacked(one.cells, FEATURE_COUNT) for one in found]
    except ValueError as error:
        raise ConfigError(f"the database has features that are damaged ({error}); train with --data") from error
    ends = np.cumsum([0, *(len(columns) for columns, _ in pairs)])
    columns = np.concatenate([columns for columns, _ in pairs])
    values = np.concatenate([values for _, values in pairs])
    return sparse.csr_matrix((values, columns, ends), shape=(len(found), FEATURE_COUNT))


def _digest(found: list[Example]) -> str:
    total = hashlib.sha256()
    for one in found:
        total.update(f"{one.at_us} {one.group} {one.generated_tokens} {one.censored}".encode())
        total.update(one.cells)
    return total.hexdigest()
