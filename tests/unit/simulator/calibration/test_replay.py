"""A replay is the instance model's own run, and closed loops wait for their answers."""

from dataclasses import replace

import numpy as np
import pytest

from forebay.core.errors import ConfigError
from forebay.core.units import PS_PER_S
from forebay.simulator.calibration.constants import durations_s
from forebay.simulator.calibration.errors import errors
from forebay.simulator.calibration.replay import replay
from tests.unit.simulator.calibration.kit import FLAGS, PROFILE, measured, sweep, traffic


def test_recorded_iterations_last_as_long_as_the_profile_says() -> None:
    answered = replay(traffic(), PROFILE, FLAGS)
    assert np.allclose(answered.end_s - answered.start_s, durations_s(PROFILE, answered.shape), atol=2e-12)
    assert np.array_equal(answered.first_s, answered.end_s[answered.first_iteration])
    assert np.array_equal(answered.last_s, answered.end_s[answered.last_iteration])


def test_a_replay_of_what_the_model_answered_has_no_error() -> None:
    run = measured(traffic(), PROFILE)
    found = errors(run, replay(run, PROFILE, FLAGS))
    assert (found.ttft.mean, found.tpot.p99, found.e2e.request, round(found.makespan, 6)) == (0, 0, 0, 0)


def test_the_frontend_comes_on_top_of_both_tokens() -> None:
    run = traffic()
    plain, fronted = (replay(run, replace(PROFILE, frontend_ps=ps), FLAGS) for ps in (0, PS_PER_S // 10))
    assert np.allclose(fronted.first_s - plain.first_s, 0.1)
    assert np.allclose(fronted.last_s - plain.last_s, 0.1)


def test_a_client_of_a_closed_loop_sends_after_its_answer_and_its_pause() -> None:
    run = measured(sweep(levels=(4,), each=3), PROFILE)
    slower = replace(PROFILE, iteration_ps=tuple(2 * ps for ps in PROFILE.iteration_ps))
    answered = replay(run, slower, FLAGS)
    for client in set(run.client.tolist()):
        rows = np.flatnonzero(run.client == client)
        pauses = run.arrival_s[rows[1:]] - run.last_s[rows[:-1]]
        assert np.allclose(answered.arrival_s[rows[1:]] - answered.last_s[rows[:-1]], pauses)


def test_a_request_that_never_fits_is_named() -> None:
    run = traffic(3)
    huge = replace(run, prompt_tokens=run.prompt_tokens * 10_000)
    with pytest.raises(ConfigError, match=r"made, request 1: .* exceed the KV cache"):
        replay(huge, PROFILE, FLAGS)
