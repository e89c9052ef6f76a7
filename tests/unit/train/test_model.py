import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")

from scipy import sparse

from forebay.core.values import InferenceRequest
from forebay.predictor.lengths.features import extract
from forebay.predictor.sessions import CPU, OnnxSession
from forebay.train.export import to_onnx
from forebay.train.model import LengthModel, Rows, Settings, calibrated, fit, step_count

# The converter hands numpy integers to protobuf, which deprecates them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SEED = 3
SETTINGS = Settings(
    component_count=4, picked_count=10, tree_count=20, leaf_count=7, leaf_examples_min=5, tail_leaf_examples_min=10
)
VERBS = {"list": 20, "explain": 200, "translate": 40, "write": 400}


def examples(count: int = 400) -> tuple[Rows, npt.NDArray[np.float64]]:
    """Prompts whose first word tells how long the answer is, give or take a fifth."""
    generator = np.random.default_rng(SEED)
    verbs = generator.choice(list(VERBS), count)
    queries = [
        InferenceRequest(f"q{number}", "m", int(generator.integers(5, 50)), prompt_head=f"{verb} item {number}")
        for number, verb in enumerate(verbs)
    ]
    tokens = np.array([VERBS[verb] for verb in verbs]) * np.exp(0.2 * generator.standard_normal(count))
    features = [sparse.csr_matrix(extract(queries[start : start + 64])) for start in range(0, count, 64)]
    return sparse.vstack(features).tocsr(), tokens


@pytest.fixture(scope="module")
def trained() -> LengthModel:
    features, tokens = examples()
    steps: list[str] = []
    found = fit(features[:300], tokens[:300], np.arange(300, dtype=np.int64), SETTINGS, steps.append)
    assert len(steps) == step_count()
    return found


def test_the_text_tells_the_length(trained: LengthModel) -> None:
    features, tokens = examples()
    error = np.abs(trained.predict(features[300:])[:, 1] - tokens[300:]).mean()
    assert error < 0.5 * np.abs(np.median(tokens) - tokens).mean()


def test_the_same_data_gives_the_same_file(trained: LengthModel) -> None:
    features, tokens = examples()
    again = fit(features[:300], tokens[:300], np.arange(300, dtype=np.int64), SETTINGS, lambda _: None)
    assert to_onnx(again) == to_onnx(trained)


def test_the_export_says_what_the_model_says(trained: LengthModel) -> None:
    features, tokens = examples()
    model = calibrated(trained, features[300:], tokens[300:])
    session = OnnxSession(to_onnx(model), [CPU], 1)
    exported = np.sort(session.run({"features": features.toarray()}), axis=1)
    apart = ~np.isclose(np.log1p(exported), np.log1p(model.predict(features)), rtol=0, atol=1e-4).all(axis=1)
    # A sum in another order may be rounded to the next step of the grid, and that may send its row to another leaf.
    assert apart.mean() < 0.01
    assert session.widths == {"features": features.shape[1]}


def test_calibration_brings_each_level_to_its_share(trained: LengthModel) -> None:
    features, tokens = examples(2000)
    model = calibrated(trained, features[1000:], tokens[1000:])
    covered = (tokens[1000:, None] <= model.predict(features[1000:])).mean(axis=0)
    assert covered.tolist() == pytest.approx([0.10, 0.50, 0.90, 0.97], abs=0.03)


def test_quantiles_never_decrease(trained: LengthModel) -> None:
    features, _ = examples()
    assert (np.diff(trained.predict(features), axis=1) >= 0).all()
