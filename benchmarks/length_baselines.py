"""What trained predictors are measured beside: rules and models of the usual kind, fitted on the same examples."""

from collections.abc import Callable

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import OneHotEncoder

from forebay.train.data import Examples

Baseline = Callable[[Examples, Examples, int], np.ndarray]
"""Fits on the first examples with a seed and gives the tokens of the second ones' answers."""
FOLDS = 5
FOLDED_COUNT = 16


def constant(learnt: Examples, asked: Examples, seed: int) -> np.ndarray:
    """The median of all answers."""
    return np.full(len(asked), np.median(learnt.tokens))


def length_only(learnt: Examples, asked: Examples, seed: int) -> np.ndarray:
    """A random forest on the prompt's length."""
    forest = RandomForestRegressor(200, min_samples_leaf=20, criterion="squared_error", random_state=seed)
    return np.asarray(forest.fit(_lengths(learnt), learnt.tokens).predict(_lengths(asked)))


def magnus_forest(learnt: Examples, asked: Examples, seed: int) -> np.ndarray:
    """Magnus without its encoder: a random forest on the prompt's length, the application and folded words."""
    words = TfidfVectorizer(min_df=2, sublinear_tf=True)
    svd = TruncatedSVD(8 * FOLDED_COUNT, random_state=seed)
    shown = svd.fit_transform(words.fit_transform(_texts(learnt)))
    seen = svd.transform(words.transform(_texts(asked)))
    one, other = _identities(learnt, asked)
    forest = RandomForestRegressor(150, min_samples_leaf=5, max_features=0.33, random_state=seed)
    forest.fit(np.column_stack((_lengths(learnt), _fold(shown), one)), learnt.tokens)
    return np.asarray(forest.predict(np.column_stack((_lengths(asked), _fold(seen), other))))


def boosting(learnt: Examples, asked: Examples, seed: int) -> np.ndarray:
    """TF-IDF of words and pairs, a ridge on the logarithm, 100 components of them, boosting on absolute error."""
    return _boosting(learnt, asked, seed, knows=False)


def boosting_with_id(learnt: Examples, asked: Examples, seed: int) -> np.ndarray:
    """The same, told application and model."""
    return _boosting(learnt, asked, seed, knows=True)


def _boosting(learnt: Examples, asked: Examples, seed: int, *, knows: bool) -> np.ndarray:
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    shown, seen = words.fit_transform(_texts(learnt)), words.transform(_texts(asked))
    if knows:
        one, other = _identities(learnt, asked)
        shown, seen = sparse.hstack([shown, one]).tocsr(), sparse.hstack([seen, other]).tocsr()
    target = np.log1p(learnt.tokens)
    fold = np.random.default_rng(seed).integers(0, FOLDS, learnt.groups.max() + 1)[learnt.groups]
    score = np.zeros(len(learnt))
    for number in range(FOLDS):
        held = fold == number
        score[held] = _ridge(shown[~held], target[~held]).predict(shown[held])
    svd = TruncatedSVD(100, random_state=seed).fit(shown)
    parts = [svd.transform(shown), score[:, None], _lengths(learnt)]
    others = [svd.transform(seen), _ridge(shown, target).predict(seen)[:, None], _lengths(asked)]
    if knows:
        parts, others = [*parts, one], [*others, other]
    trees = HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=300, learning_rate=0.05, early_stopping=False, random_state=seed
    )
    return np.asarray(trees.fit(np.column_stack(parts), learnt.tokens).predict(np.column_stack(others)))


def _ridge(rows: sparse.csr_matrix, target: np.ndarray) -> Ridge:
    return Ridge(alpha=1.0, solver="lsqr").fit(rows, target)


def _texts(some: Examples) -> list[str]:
    return [query.prompt_head for query in some.queries]


def _lengths(some: Examples) -> np.ndarray:
    sizes = [(query.prompt_tokens, len(query.prompt_head), len(query.prompt_head.split())) for query in some.queries]
    return np.log1p(np.array(sizes, dtype=np.float64))


def _fold(components: np.ndarray) -> np.ndarray:
    """Sums of groups of neighbours, as Magnus folds its embeddings."""
    return np.asarray(components.reshape(len(components), FOLDED_COUNT, -1).sum(axis=2))


def _identities(learnt: Examples, asked: Examples) -> tuple[np.ndarray, np.ndarray]:
    names = [[[query.application, query.model] for query in some.queries] for some in (learnt, asked)]
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(names[0])
    return encoder.transform(names[0]), encoder.transform(names[1])
