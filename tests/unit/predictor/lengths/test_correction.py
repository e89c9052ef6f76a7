import numpy as np
import pytest

from forebay.predictor.lengths.correction import (
    AS_IS,
    Line,
    Moved,
    Seen,
    Shift,
    Tilted,
    Window,
    fit,
    levels_of,
    loss,
    moved,
)

RANDOM_SEED = 7


def seen(median: float, prompt: float, answer: float, spread: float = 0.5) -> Seen:
    return Seen(median + spread * np.array((-1.0, 0.0, 1.0, 1.4)), prompt, answer)


def test_without_outcomes_nothing_is_corrected() -> None:
    levels = np.array((1.0, 2.0, 3.0, 4.0))
    assert Window(100, 32).correction().apply(levels, 5.0).tolist() == levels.tolist()


def test_a_model_that_is_off_by_a_factor_is_shifted() -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    medians = generator.uniform(2, 6, 400)
    # Its spread knows each prompt's own noise, which a line with one spread for all cannot.
    noises = np.where(np.arange(400) % 2, 0.1, 1.0)
    outcomes = [
        seen(median, generator.uniform(2, 6), median + 1.0 + noise * generator.standard_normal(), 1.2816 * noise)
        for median, noise in zip(medians, noises, strict=True)
    ]
    found = fit(outcomes, 32)
    assert isinstance(found, Shift)
    assert found.amounts[1] == pytest.approx(1.0, abs=0.1)


def test_a_model_that_knows_nothing_is_replaced_by_the_prompts_length() -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    outcomes = []
    for _ in range(400):
        prompt = generator.uniform(2, 6)
        outcomes.append(seen(generator.uniform(2, 6), prompt, prompt + 0.05 * generator.standard_normal()))
    found = fit(outcomes, 32)
    assert isinstance(found, Line)
    assert found.apply(np.array((2.0, 2.5, 3.0, 3.5)), 5.0)[1] == pytest.approx(5.0, abs=0.15)
    assert found.apply(np.array((4.0, 5.5, 7.0, 8.5)), 3.0)[1] == pytest.approx(3.0, abs=0.15)


def test_few_outcomes_shift_a_little_and_fit_no_line() -> None:
    found = fit([seen(3.0, 4.0, 5.0)] * 4, 32)
    assert isinstance(found, Shift)
    assert found.amounts[1] == pytest.approx(2.0 * (4 / 8 + 4 / 8 * 4 / 36))


def test_levels_cover_their_share() -> None:
    errors = np.arange(1.0, 101.0)
    assert levels_of(errors).tolist() == [11.0, 51.0, 91.0, 98.0]
    assert levels_of(np.array([3.0])).tolist() == [3.0] * 4


def test_loss_is_least_at_the_quantiles() -> None:
    tokens = np.arange(1.0, 101.0)
    best = np.tile((10.5, 50.5, 90.5, 97.5), (100, 1))
    assert loss(tokens, best) < min(loss(tokens, best + 5), loss(tokens, best - 5), loss(tokens, best * 0.5))


def test_the_window_forgets() -> None:
    window = Window(50, 1)
    for answer in [9.0] * 50 + [4.0] * 50:
        window.add(seen(3.0, 4.0, answer))
    assert window.correction().apply(seen(3.0, 4.0, 0.0).predicted, 4.0)[1] == pytest.approx(4.0, abs=0.1)


def test_a_few_outcomes_move_what_they_start_from() -> None:
    base = Shift(np.array((1.0, 2.0, 3.0, 4.0)))
    found = moved([seen(3.0, 4.0, 4.0)] * 4, base)
    assert found.apply(np.zeros(4), 4.0).tolist() == pytest.approx([0.5, 1.5, 2.5, 3.5])
    assert moved([], AS_IS) is AS_IS


def test_a_window_of_few_outcomes_follows_what_it_starts_from() -> None:
    window = Window(100, 32)
    window.add(seen(3.0, 4.0, 4.0))
    near, far = Shift(np.full(4, 1.0)), Shift(np.full(4, -5.0))
    assert window.correction(near).apply(np.zeros(4), 4.0)[1] == pytest.approx(1.0)
    assert window.correction(far).apply(np.zeros(4), 4.0)[1] == pytest.approx(-5.0 + 6.0 / 5)


def test_a_window_of_many_outcomes_stands_alone() -> None:
    window = Window(100, 32)
    for _ in range(64):
        window.add(seen(3.0, 4.0, 4.0))
    assert window.correction(Shift(np.full(4, 9.0))).apply(seen(3.0, 4.0, 0).predicted, 4.0)[1] == pytest.approx(
        4.0, abs=0.1
    )


def test_some_outcomes_tilt_what_they_start_from_where_the_prompts_length_tells() -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    prompts = generator.uniform(2, 6, 16)
    found = moved([seen(3.0, prompt, prompt + 0.1 * generator.standard_normal()) for prompt in prompts], AS_IS)
    assert isinstance(found, Tilted)
    assert found.apply(seen(3.0, 0, 0).predicted, 5.5)[1] == pytest.approx(5.5, abs=0.4)
    assert found.apply(seen(3.0, 0, 0).predicted, 2.5)[1] == pytest.approx(2.5, abs=0.4)


def test_some_outcomes_that_no_line_explains_only_move() -> None:
    generator = np.random.default_rng(RANDOM_SEED)
    outcomes = [seen(3.0, generator.uniform(2, 6), 5.0 + generator.standard_normal()) for _ in range(16)]
    assert isinstance(moved(outcomes, AS_IS), Moved)
