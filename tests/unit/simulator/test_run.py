"""Whole runs: what a scenario gives, whatever the policies."""

from pathlib import Path

import numpy as np
import pytest

from forebay.core.errors import ConfigError
from forebay.core.instance import EngineRequest, InstanceModel
from forebay.simulator.config import ClientConfig, NetworkConfig, Route
from forebay.simulator.profiles import profile_of
from forebay.simulator.results import STATUSES, UNKNOWN
from forebay.simulator.shell.journal import Journal
from tests.unit.simulator.shell.worlds import PROFILE, S, group, run, workload, world


def test_one_request_alone_takes_what_its_instance_takes() -> None:
    result = run(workload([S], 40, 20), world(group(1)))
    profile = profile_of(PROFILE, max_seqs=8, max_batch_tokens=64, kv_tokens=2_048)
    instance = InstanceModel(profile)
    instance.arrive(EngineRequest("r", 40, 20), S * 10**6)
    events = instance.advance(10**14)
    assert result.requests.arrival_us.tolist() == [S]
    assert result.requests.first_us.tolist() == [events[0].at_ps // 10**6]
    assert result.requests.finish_us.tolist() == [events[-1].at_ps // 10**6]
    assert result.end_us == events[-1].at_ps // 10**6


def test_all_requests_of_a_burst_finish_and_spread_over_the_fleet() -> None:
    result = run(workload([0] * 40), world())
    assert set(result.requests.status.tolist()) == {STATUSES.index("finished")}
    assert np.bincount(result.requests.instance).tolist() == [20, 20]
    assert result.instances == ("local-1/model", "local-2/model")


def test_what_has_no_room_is_held_by_the_scheduler() -> None:
    result = run(workload([0] * 40), world())
    assert (result.requests.held_us > 0).sum() == 24


def test_a_hold_that_takes_too_long_is_refused() -> None:
    result = run(workload([0] * 40, 40, 200, deadline_us=[S // 2] * 40), world(group(1)))
    rejected = result.requests.status == STATUSES.index("rejected")
    assert rejected.sum() == 32
    assert result.rejections == {"HELD_TOO_LONG": 32}
    assert set(result.requests.finish_us[rejected].tolist()) == {UNKNOWN}


def test_clients_that_may_come_back_do_so_when_they_are_told_to() -> None:
    patient = world(group(1), clients=ClientConfig(attempts_max=100))
    result = run(workload([0] * 40, 40, 200, deadline_us=[S // 2] * 40), patient)
    assert set(result.requests.status.tolist()) == {STATUSES.index("finished")}
    assert result.counters["client_retries"] > 0
    assert result.requests.arrival_us.tolist() == [0] * 40


def test_oracles_know_requests_that_come_back() -> None:
    patient = world(group(1), clients=ClientConfig(attempts_max=100))
    load = workload([0] * 30, 40, 200, deadline_us=[S // 2] * 30)
    result = run(load, patient, policy={"predictor": {"length": "clairvoyant"}})
    assert set(result.requests.predicted_p50.tolist()) == {200}


def test_a_request_that_fits_nowhere_fails() -> None:
    result = run(workload([0, 0], [4_000, 40]), world())
    assert result.requests.status.tolist() == [STATUSES.index("failed"), STATUSES.index("finished")]
    assert result.rejections == {"REFUSED_BY_MODEL": 1}


def test_an_unknown_model_is_rejected() -> None:
    result = run(workload([0], names={"models": ("other",)}), world())
    assert result.rejections == {"MODEL_UNKNOWN": 1}


def test_an_answer_is_cut_at_the_limit_of_its_client() -> None:
    result = run(workload([0, 0], output_tokens=[20, 20], output_tokens_max=[5, 0]), world())
    assert result.requests.output_tokens.tolist() == [5, 20]


def test_a_horizon_ends_the_run_in_the_middle() -> None:
    result = run(workload([0, 0], output_tokens=[2, 500]), world(horizon_s=1.0))
    assert result.requests.status.tolist() == [STATUSES.index("finished"), STATUSES.index("unfinished")]
    assert result.end_us == S


def test_a_child_arrives_after_its_parent_has_finished_and_its_client_has_thought() -> None:
    result = run(workload([0, 0, 0], parents=[[], [0], [0, 1]], think_us=[0, 5, 7]), world())
    arrival, finish = result.requests.arrival_us, result.requests.finish_us
    assert arrival.tolist() == [0, finish[0] + 5, finish[1] + 7]


def test_children_of_a_request_that_fails_fail_with_it() -> None:
    result = run(workload([0, 0, 0], [4_000, 40, 40], parents=[[], [0], [1]]), world())
    assert set(result.requests.status.tolist()) == {STATUSES.index("failed")}
    assert result.rejections == {"REFUSED_BY_MODEL": 1, "PARENT_FAILED": 2}


def test_round_trips_are_added_on_the_way_there_and_back() -> None:
    near = run(workload([S]), world())
    routes = (Route(("local", "far"), 100.0),)
    far = run(workload([S]), world(group(region="far"), network=NetworkConfig(routes=routes)))
    assert far.requests.first_us[0] - near.requests.first_us[0] == 100_000
    assert far.requests.finish_us[0] - near.requests.finish_us[0] == 100_000


def test_a_prediction_takes_its_time_before_the_scheduler_hears_of_the_arrival() -> None:
    slow = NetworkConfig(prediction_ms=30.0)
    at_once, later = (
        run(workload([S]), world(network=network), policy={"predictor": {"length": "input_ratio"}})
        for network in (NetworkConfig(), slow)
    )
    assert later.requests.finish_us[0] - at_once.requests.finish_us[0] == 30_000
    assert later.requests.predicted_p50.tolist() == [60]


def test_the_predictor_learns_from_what_happened() -> None:
    times = [number * S for number in range(40)]
    result = run(workload(times, output_tokens=77), world(), policy={"predictor": {"length": "histogram"}})
    assert result.requests.predicted_p50[0] != 77
    assert result.requests.predicted_p50[-1] == 77


def test_without_a_predictor_the_histogram_of_the_scheduler_answers() -> None:
    times = [number * S for number in range(40)]
    result = run(workload(times, output_tokens=77), world())
    assert result.requests.predicted_p50[-1] in range(77, 92)


def test_prompts_that_an_instance_has_read_are_hits_there() -> None:
    remembering = world(group(1), engine={"prefix_cache_tokens": 1_024, "block_size": 16})
    blocks = [[1, 2], [1, 2], [1, 3], [4]]
    result = run(workload([0, S, 2 * S, 3 * S], 32, blocks=blocks, block_tokens=16), remembering)
    assert result.requests.hit_tokens.tolist() == [0, 32, 16, 0]


def test_a_prompt_is_known_only_once_its_first_token_has_appeared() -> None:
    remembering = world(group(1), engine={"prefix_cache_tokens": 1_024})
    result = run(workload([0, 1], 32, blocks=[[1], [1]], block_tokens=32), remembering)
    assert result.requests.hit_tokens.tolist() == [0, 0]


def test_the_same_seed_gives_the_same_bytes() -> None:
    times = np.sort(np.random.default_rng(1).integers(0, 5 * S, 60)).tolist()
    policy = {"scheduler": {"router": "power_of_two"}, "predictor": {"length": "histogram"}}
    first, second = (run(workload(times), world(), policy=policy) for _ in range(2))
    for name in first.requests.__slots__:
        assert getattr(first.requests, name).tobytes() == getattr(second.requests, name).tobytes(), name


@pytest.mark.parametrize(
    "policy", [{"scheduler": {"router": "nearest"}}, {"predictor": {"length": "guess"}}, {"gateway": {"tries": 3}}]
)
def test_a_policy_that_does_not_exist_is_refused(policy: dict[str, dict[str, object]]) -> None:
    with pytest.raises(ConfigError, match="unknown"):
        run(workload([0]), world(), policy=policy)


def test_watchers_hear_how_many_rows_have_ended() -> None:
    heard: list[int] = []
    run(workload([0] * 2_500, output_tokens=1), world(group(4)), watch=heard.append, check=False)
    assert [count // 1_000 for count in heard] == [1, 2]


def test_an_arm_that_says_nothing_of_the_predictor_gets_the_trained_model_that_ships() -> None:
    journal = Journal()
    result = run(workload([0, S]), world(), policy={}, journal=journal)
    (placed,) = [entry.arguments[1] for entry in journal.entries if entry.event == "on_placed"][:1]
    assert placed.predicted_by.startswith("onnx_quantile@")
    assert (result.requests.predicted_p50 > 0).all()


def test_a_folder_without_a_trained_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no onnx_quantile in"):
        run(workload([0]), world(), policy={"predictor": {"models_folder": str(tmp_path)}})


@pytest.mark.parametrize("length", ["none", "histogram", "onnx_quantile"])
def test_nobody_acts_on_how_long_an_answer_gets_before_it_has_ended(length: str) -> None:
    journals = Journal(), Journal()
    ends_us = []
    for journal, output_tokens in zip(journals, (400, 900), strict=True):
        load = workload([number * S // 10 for number in range(30)], output_tokens=output_tokens)
        result = run(load, world(group(2)), policy={"predictor": {"length": length}}, journal=journal)
        ends_us.append(result.requests.finish_us.min())
    short, long = (
        [(one.part, one.event, one.arguments, one.answer) for one in journal.entries if one.now_us < ends_us[0]]
        for journal in journals
    )
    assert ends_us[0] < ends_us[1]
    assert len(short) > 100
    # A batch that is being answered is an object of its own: what it says stands in the scheduler's arguments.
    assert [one for one in short if one[1] != "on_queries"] == [one for one in long if one[1] != "on_queries"]
