import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.prediction import ShadowTrial
from forebay.core.values import LengthQuantiles
from forebay.predictor.lengths.shadowing import Duel, is_better, pinball_loss


def test_the_loss_weighs_too_short_and_too_long_by_the_level() -> None:
    assert pinball_loss(LengthQuantiles(90, 90, 90, 90), 100) == pytest.approx(10 * (0.1 + 0.5 + 0.9 + 0.97) / 4)
    assert pinball_loss(LengthQuantiles(110, 110, 110, 110), 100) == pytest.approx(10 * (0.9 + 0.5 + 0.1 + 0.03) / 4)
    assert pinball_loss(LengthQuantiles(7, 7, 7, 7), 7) == 0


def test_the_true_quantiles_lose_least() -> None:
    answers = np.random.default_rng(1).exponential(100, 20_000).round().astype(int)
    true = LengthQuantiles(*(round(-100 * np.log(1 - level)) for level in (0.1, 0.5, 0.9, 0.97)))
    others = (LengthQuantiles(20, 80, 230, 350), LengthQuantiles(5, 50, 200, 300), LengthQuantiles(70, 70, 70, 70))
    losses = [np.mean([pinball_loss(one, int(tokens)) for tokens in answers]) for one in (true, *others)]
    assert losses[0] == min(losses)


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)), min_size=2, max_size=50))
def test_the_trial_is_the_paired_test(pairs: list[tuple[float, float]]) -> None:
    duel = Duel()
    for pair in pairs:
        duel.add(*pair)
    active, shadow = np.array(pairs).T
    trial, error = duel.trial, (active - shadow).std(ddof=1) / np.sqrt(len(pairs))
    assert trial.outcome_count == len(pairs)
    assert trial.active_loss_tokens == pytest.approx(active.mean())
    assert trial.shadow_loss_tokens == pytest.approx(shadow.mean())
    if error > 1e-6:
        assert trial.z_score == pytest.approx((active - shadow).mean() / error, rel=1e-3, abs=1e-6)


def test_without_outcomes_there_is_nothing_to_tell() -> None:
    assert Duel().trial == ShadowTrial(0, 0, 0, 0)
    assert not is_better(Duel().trial, 1)


def test_a_gain_that_never_varies_is_sure() -> None:
    duel, same = Duel(), Duel()
    for _ in range(5):
        duel.add(10, 9)
        same.add(10, 10)
    assert duel.trial.z_score > 100
    assert same.trial.z_score == 0


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (ShadowTrial(500, 100, 98, 2.1), True),
        (ShadowTrial(499, 100, 50, 9), False),
        (ShadowTrial(500, 100, 98.1, 9), False),
        (ShadowTrial(500, 100, 50, 2.0), False),
        (ShadowTrial(500, 100, 120, -5), False),
        (ShadowTrial(500, 0, 0, 0), False),
    ],
)
def test_a_shadow_takes_over_only_when_it_gains_enough_and_not_by_luck(trial: ShadowTrial, expected: bool) -> None:
    assert is_better(trial, 500) is expected


@pytest.mark.parametrize("seed", range(20))
def test_a_shadow_that_is_as_good_does_not_take_over_however_often_it_is_asked(seed: int) -> None:
    random, duel = np.random.default_rng(seed), Duel()
    for active, shadow in random.exponential(30, (3_000, 2)):
        common = random.exponential(60)
        duel.add(common + 0.1 * active, common + 0.1 * shadow)
        assert not is_better(duel.trial, 500)
