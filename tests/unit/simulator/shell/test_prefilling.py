"""Prompts are computed on instances of their own, and caches follow over links."""

import pytest

from forebay.core.instance import EngineFlags, EngineRequest, InstanceModel
from forebay.simulator.config import Fault, Prefill, World
from forebay.simulator.profiles import profile_of
from forebay.simulator.results import STATUSES, RunResult
from forebay.simulator.usage import fleet_usage
from tests.unit.simulator.shell.worlds import PROFILE, S, group, run, workload, world

ENGINE = profile_of(PROFILE, max_seqs=8, max_batch_tokens=64, kv_tokens=2_048)
US = 10**6


def split(*groups: object, link_gb_per_s: float = 0.0, instances: int = 1, **given: object) -> World:
    prefill = Prefill("model", PROFILE, instances, link_gb_per_s)
    return world(*(groups or (group(1),)), prefill=(prefill,), **given)  # type: ignore[arg-type]


def alone(request: EngineRequest, at_us: int = 0) -> list[int]:
    """When the tokens of a request appear on an engine that has nothing else to do."""
    engine = InstanceModel(ENGINE, EngineFlags())
    engine.advance(at_us * US)
    engine.arrive(request, at_us * US)
    return [event.at_ps for event in engine.advance(10**14)]


def test_a_first_token_comes_from_the_prefill_and_the_rest_from_where_it_was_placed() -> None:
    result = run(workload([0], 200, 50), split())
    (first_ps,) = alone(EngineRequest("r", 200, 1))
    assert result.requests.first_us.tolist() == [first_ps // US]
    decode = InstanceModel(ENGINE, EngineFlags())
    decode.advance(first_ps)
    decode.arrive(EngineRequest("r", 201, 49, hit_tokens=200), first_ps)
    assert result.requests.finish_us.tolist() == [decode.advance(10**14)[-1].at_ps // US]


def test_a_cache_takes_its_time_on_the_link_and_waits_for_those_before_it() -> None:
    def finish_us(link_gb_per_s: float, count: int) -> list[int]:
        where = split(group(2), link_gb_per_s=link_gb_per_s)
        rows = run(workload([0] * count, 200, 2), where, policy=ROUND_ROBIN).requests
        return sorted((rows.finish_us - rows.first_us).tolist())

    copy_us = ENGINE.kv_transfer_ps(200, 10_000_000) / US
    at_once, slow = finish_us(0.0, 1), finish_us(0.01, 1)
    assert slow[0] - at_once[0] == pytest.approx(copy_us, abs=1)
    # The second prompt is done long before the first cache is over.
    prefill_us = run(workload([0, 0], 200, 2), split(group(2)), policy=ROUND_ROBIN).requests.first_us
    waits_us = copy_us - abs(prefill_us[1] - prefill_us[0])
    assert finish_us(0.01, 2)[1] - at_once[0] == pytest.approx(copy_us + waits_us, abs=2)


ROUND_ROBIN = {"scheduler": {"router": "round_robin"}, "predictor": {"length": "none"}}


def test_an_answer_of_one_token_never_leaves_the_prefill() -> None:
    result = run(workload([0], 200, 1), split(link_gb_per_s=0.001))
    assert result.requests.first_us[0] == result.requests.finish_us[0] == alone(EngineRequest("r", 200, 1))[0] // US


def test_prompts_go_where_the_fewest_tokens_wait() -> None:
    load = workload([0, 1, 2], [600, 60, 60], 1)
    one, two = (run(load, split(instances=instances)).requests.first_us for instances in (1, 2))
    assert one[1] > one[0]
    assert two[2] < two[0]
    assert two[1] < two[0] <= one[0]


def test_a_prompt_that_fits_nowhere_is_refused() -> None:
    assert run(workload([0], 4_000), split()).rejections == {"REFUSED_BY_MODEL": 1}


def test_what_is_on_its_way_is_lost_with_where_it_was_going() -> None:
    # The cache needs more than a second; the only instance goes meanwhile, and nobody comes back.
    where = split(link_gb_per_s=0.01, faults=(Fault(at_s=1.0, model="model"),))
    policy = {**ROUND_ROBIN, "gateway": {"attempts_max": 1}}
    result = run(workload([0], 200, 50), where, policy=policy)
    assert result.requests.status.tolist() == [STATUSES.index("failed")]
    assert result.end_us == S


def test_a_request_that_goes_back_begins_with_its_prefill() -> None:
    where = split(group(2), link_gb_per_s=0.01, faults=(Fault(at_s=1.0, model="model"),))
    result = run(workload([0], 200, 50), where, policy=ROUND_ROBIN)
    assert result.requests.attempt_count.tolist() == [2]
    assert result.requests.status.tolist() == [STATUSES.index("finished")]
    assert result.requests.first_us[0] > S


def test_models_without_prefill_instances_are_as_before() -> None:
    names = {"models": ("model", "other")}
    groups = group(1), group(1, model="other")
    load = workload([0, 1, 2, 3], 200, 50, model=[1, 0, 1, 0], names=names)
    with_prefill, without = (run(load, where).requests for where in (split(*groups), world(*groups)))
    assert with_prefill.finish_us[[0, 2]].tolist() == without.finish_us[[0, 2]].tolist()
    assert with_prefill.finish_us[[1, 3]].tolist() != without.finish_us[[1, 3]].tolist()


def test_its_gpus_are_paid() -> None:
    where = split(instances=2)
    result: RunResult = run(workload([0], 200, 50), where)
    assert [change.instance_id for change in result.changes if change.instance_id.startswith("prefill")] == [
        "prefill-1/model",
        "prefill-2/model",
    ]
    assert fleet_usage(result, where).gpu_hours == pytest.approx(3 * result.end_us / S / 3_600)


def test_every_request_gets_an_answer_whatever_happens() -> None:
    lengths = [30 + 37 * number % 900 for number in range(80)], [1 + number % 90 for number in range(80)]
    load = workload([number * S // 50 for number in range(80)], *lengths)
    troubles = (Fault(0.5, "hang", "model", 0, 1.0), Fault(1.0, "crash", "model", 1))
    where = split(group(2, instances_max=3), link_gb_per_s=1.0, instances=2, faults=troubles)
    plain, fast = (run(load, where, kernel=kernel).requests for kernel in ("reference", "fast"))
    assert set(plain.status.tolist()) == {STATUSES.index("finished"), STATUSES.index("failed")}
    assert plain.finish_us.tolist() == fast.finish_us.tolist()


@pytest.mark.parametrize("wrong", [{"instances": 0}, {"link_gb_per_s": -1.0}, {"model": ""}, {"profile": "none"}])
def test_prefill_instances_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        Prefill(**{"model": "m", "profile": PROFILE, **wrong})  # type: ignore[arg-type]


def test_prefix_caches_are_refused_beside_prefill_instances() -> None:
    with pytest.raises(ValueError, match="no prefix cache"):
        split(engine={"prefix_cache_tokens": 512})
