"""Calibration finds the constants of an engine that is known."""

from dataclasses import replace

import numpy as np
import pytest

from forebay.core.units import PS_PER_S
from forebay.simulator.calibration.constants import Constant, blank, durations_s, known, table
from forebay.simulator.calibration.errors import errors
from forebay.simulator.calibration.fit import fit
from forebay.simulator.calibration.replay import replay
from forebay.simulator.calibration.steps import Steps, step_errors
from tests.unit.simulator.calibration.kit import FLAGS, PROFILE, measured, sweep, traffic, with_secret

STEP_S, SEQ_S, FRONTEND_S = 2.5e-3, 4e-5, 0.030


def constants(*names: str) -> list[Constant]:
    return [known(PROFILE)[name] for name in names]


def test_traffic_tells_the_host_time_of_an_iteration() -> None:
    run = measured(traffic(), with_secret(STEP_S))
    fitted = fit(PROFILE, [run], constants("step_s"), FLAGS)
    assert fitted.values["step_s"] == pytest.approx(STEP_S, rel=0.01)
    assert (fitted.on_bound, fitted.unidentified) == ((), ())
    assert errors(run, replay(run, fitted.profile, FLAGS)).e2e.request < 0.2


def test_noise_of_ten_percent_moves_it_by_less_than_five() -> None:
    run = measured(traffic(150), with_secret(STEP_S), noise=0.1)
    assert fit(PROFILE, [run], constants("step_s"), FLAGS).values["step_s"] == pytest.approx(STEP_S, rel=0.05)


def test_a_sweep_tells_what_grows_with_the_sequences_from_what_does_not() -> None:
    run = measured(sweep(), with_secret(STEP_S, SEQ_S, FRONTEND_S))
    fitted = fit(PROFILE, [run], constants("step_s", "seq_s", "frontend_s"), FLAGS)
    assert fitted.values["step_s"] == pytest.approx(STEP_S, rel=0.03)
    assert fitted.values["seq_s"] == pytest.approx(SEQ_S, rel=0.1)
    assert fitted.values["frontend_s"] == pytest.approx(FRONTEND_S, rel=0.1)


def test_what_always_comes_together_is_not_told_apart_and_says_so() -> None:
    alone = sweep(levels=(1,), each=12)
    short = replace(alone, prompt_tokens=np.minimum(alone.prompt_tokens, PROFILE.max_batch_tokens))
    run = measured(short, with_secret(frontend_s=FRONTEND_S))
    fitted = fit(PROFILE, [run], constants("frontend_s", "prefill_s"), FLAGS)
    assert fitted.unidentified == ("prefill_s",)
    assert fitted.values == pytest.approx({"frontend_s": FRONTEND_S, "prefill_s": 0.0}, rel=0.01)


def test_an_engine_faster_than_the_profile_ends_on_the_bound() -> None:
    no_prefill_cost = replace(with_secret(), prefill_ps=0)
    slow = replace(PROFILE, iteration_ps=tuple(ps * 3 // 2 for ps in PROFILE.iteration_ps))
    run = measured(traffic(), no_prefill_cost)
    assert fit(slow, [run], constants("prefill_s"), FLAGS).on_bound == ("prefill_s",)


def test_what_is_fitted_on_one_run_predicts_another() -> None:
    engine = with_secret(STEP_S, SEQ_S)
    fitted = fit(PROFILE, [measured(sweep(), engine)], constants("step_s", "seq_s"), FLAGS)
    other = measured(traffic(seed=9), engine)
    assert errors(other, replay(other, PROFILE, FLAGS)).e2e.mean < -5
    assert abs(errors(other, replay(other, fitted.profile, FLAGS)).e2e.mean) < 0.5


def test_an_unknown_engine_is_learnt_from_a_sweep_alone() -> None:
    engine = with_secret(STEP_S, SEQ_S, FRONTEND_S)
    start = blank(PROFILE.max_seqs, PROFILE.max_batch_tokens, PROFILE.kv_tokens, PROFILE.block_size)
    wanted = [*table(start), *(known(start)[name] for name in ("context_s", "frontend_s", "pair_s"))]
    runs = [measured(sweep(each=2), engine)]
    fitted = fit(start, runs, wanted, FLAGS)
    other = measured(traffic(seed=9), engine)
    found = errors(other, replay(other, fitted.profile, FLAGS))
    assert abs(found.e2e.mean) < 2
    assert found.e2e.request < 2


def test_only_requests_that_ended_in_time_are_fitted() -> None:
    run = measured(traffic(), with_secret(STEP_S))
    half_s = float(np.median(run.last_s))
    late = run.last_s > half_s
    spoilt = replace(run, last_s=np.where(late, run.last_s + 1_000, run.last_s))
    fitted = fit(PROFILE, [spoilt], constants("step_s"), FLAGS, until_s=half_s)
    assert fitted.values["step_s"] == pytest.approx(STEP_S, rel=0.03)


def test_measured_iterations_give_the_constants_directly() -> None:
    generator = np.random.default_rng(4)
    decodes = generator.integers(1, 32, 200).astype(float)
    prompt = generator.integers(0, 2, 200) * generator.integers(1, 400, 200).astype(float)
    shape = np.stack([decodes, decodes * generator.integers(50, 900, 200), prompt, prompt * (prompt + 1)], axis=1)
    steps = Steps("steps.csv", shape, durations_s(with_secret(STEP_S, SEQ_S), shape))
    fitted = fit(PROFILE, [], constants("step_s", "seq_s"), FLAGS, steps=[steps])
    assert fitted.values == pytest.approx({"step_s": STEP_S, "seq_s": SEQ_S}, rel=1e-3)
    assert step_errors(steps, fitted.profile).step < 0.01
    assert step_errors(steps, PROFILE).total < -10


def test_a_table_of_times_never_falls() -> None:
    start = blank(32, 512, 200_000)
    fitted = fit(start, [measured(traffic(60), with_secret(STEP_S))], table(start), FLAGS)
    steps = np.diff(fitted.profile.iteration_ps)
    assert (steps >= 0).all()
    assert fitted.profile.iteration_ps[-1] < PS_PER_S
