"""Predictions that a workload carries: read, checked, moved with their rows, and drawn anew for rows without text."""

from pathlib import Path

import numpy as np
import pytest

from forebay.core.errors import ConfigError
from forebay.simulator.traces.prompts import pair, read_prompts
from forebay.simulator.workload import make_workload
from forebay.simulator.workload.alter import shuffle_lengths
from forebay.simulator.workload.base import PREDICTED, take
from forebay.simulator.workload.predicted import resample_predictions


def quantiles_of(workload: object) -> np.ndarray:
    return np.stack([getattr(workload, name) for name in PREDICTED], axis=1)


def test_a_workload_without_predictions_says_minus_one() -> None:
    assert (quantiles_of(make_workload([0, 1], [1, 1], [1, 1])) == -1).all()


@pytest.mark.parametrize("bad", [(5, 4, 6, 7), (0, 1, 2, 3), (-1, 1, 2, 3)])
def test_quantiles_that_cannot_be_are_refused(bad: tuple[int, ...]) -> None:
    columns = {name: [value] for name, value in zip(PREDICTED, bad, strict=True)}
    with pytest.raises(ValueError, match="row 0: predicted quantiles"):
        make_workload([0], [1], [1], **columns)


def test_prompts_bring_their_predictions(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(
        '{"prompt": "a", "output_tokens": 10, "predicted_tokens": [1, 2, 3, 4]}\n{"prompt": "b", "output_tokens": 20}\n'
    )
    made = pair(make_workload(range(4), [1] * 4, [1] * 4), read_prompts(file))
    for row, answer in zip(quantiles_of(made).tolist(), made.output_tokens.tolist(), strict=True):
        assert row == ([1, 2, 3, 4] if answer == 10 else [-1] * 4)


@pytest.mark.parametrize("bad", ["[1, 2, 3]", "[4, 3, 2, 1]", "[0, 1, 2, 3]"])
def test_a_prompt_with_wrong_predictions_is_named(tmp_path: Path, bad: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(f'{{"prompt": "a", "output_tokens": 10, "predicted_tokens": {bad}}}\n')
    with pytest.raises(ConfigError, match="predicted_tokens must be four lengths"):
        read_prompts(file)


def test_predictions_go_where_their_rows_go() -> None:
    columns = {name: np.arange(1, 101) for name in PREDICTED}
    workload = make_workload(np.arange(100) * 1_000, [1] * 100, np.arange(1, 101), **columns)
    for moved in (take(workload, np.array([3, 7])), shuffle_lengths(workload, 60.0, seed=1)):
        assert (moved.predicted_p50 == moved.output_tokens).all()


def test_drawn_errors_are_those_of_the_same_tenth() -> None:
    """Donors in the lower half are predicted twice as long, those in the upper half as half."""
    truth = np.arange(1, 101) * 10
    factor = np.where(truth <= 500, 2.0, 0.5)
    donors = np.rint(truth * factor).astype(np.int64)
    workload = make_workload(range(1_000), [1] * 1_000, np.arange(1_000) + 20)
    made = resample_predictions(workload, truth, np.stack([donors] * 4, axis=1), seed=3)
    ratio = made.predicted_p50 / made.output_tokens
    assert ratio[:500] == pytest.approx(2.0, rel=0.03)
    assert ratio[500:] == pytest.approx(0.5, rel=0.03)
    assert "resampled error" in made.notes[-1]


def test_other_seeds_draw_other_errors_and_equal_ones_the_same() -> None:
    truth = np.arange(1, 101) * 10
    donors = np.stack([np.random.default_rng(0).integers(1, 500, 100)] * 4, axis=1)
    workload = make_workload(range(100), [1] * 100, np.arange(100) + 20)
    one, same, other = (resample_predictions(workload, truth, donors, seed) for seed in (1, 1, 2))
    assert (one.predicted_p50 == same.predicted_p50).all()
    assert (one.predicted_p50 != other.predicted_p50).any()


def test_too_few_donors_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 10"):
        resample_predictions(make_workload([0], [1], [1]), np.array([1, 2]), np.array([[1] * 4, [-1] * 4]))
