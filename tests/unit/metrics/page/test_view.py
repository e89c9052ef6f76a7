"""From what the parts tell to what the page shows of fleet, queues, scaling and shadows."""

from google.protobuf.timestamp_pb2 import Timestamp
from lmaas.autoscaler.v1.autoscaler_service_pb2 import GetFleetResponse
from lmaas.autoscaler.v1.fleet_pb2 import Bounds, Mode, ModelFleet, ScalingDecision
from lmaas.common.v1 import instance_pb2, slo_pb2
from lmaas.predictor.v1.length_pb2 import PredictorAccuracy, PredictorModel, ShadowTrial
from lmaas.scheduler.v1.pressure_pb2 import Anticipation, InstanceAnticipation, Pressure, WaitingGroup
from lmaas.scheduler.v1.status_pb2 import ScheduledInstance, Shadow, ShadowCost, ShadowRow

from forebay.core.metrics import Snapshot
from forebay.core.values import InstanceLoad, ModelLoad
from forebay.metrics.page import view
from forebay.metrics.page.seen import AutoscalerSays, Part, PredictorSays, SchedulerSays, Seen
from tests.unit.metrics.page.kit import NOW, S, instance, recent, record


def placed(name: str = "a/m", **fields: int) -> ScheduledInstance:
    return ScheduledInstance(instance=instance_pb2.Instance(instance_id=name, model="m"), **fields)


def anticipating(*tokens: int, kv_tokens_max: int = 1_000, step: int = 10) -> SchedulerSays:
    one = InstanceAnticipation(instance_id="a/m", model="m", kv_tokens=tokens, kv_tokens_max=kv_tokens_max)
    return SchedulerSays(anticipation=Anticipation(step_iterations=step, instances=[one]))


def stamp(value_us: int) -> Timestamp:
    made = Timestamp()
    made.FromMicroseconds(value_us)
    return made


def test_an_instance_is_shown_with_what_was_seen_and_what_all_replicas_placed() -> None:
    seen = InstanceLoad("a/m", "m", True, running_count=3, waiting_count=1, kv_utilization=0.4567)
    told = [placed(lease_count=2, predicted_tokens=70, concurrency_cap=8), placed(lease_count=1, draining=1)]
    assert view.loads([instance()], [seen], told) == {"a/m": [1, 3, 1, 457, 3, 70, 8, 1]}


def test_what_nobody_tells_is_none_and_not_zero() -> None:
    assert view.loads([instance()], [], []) == {"a/m": [None] * 8}
    seen = InstanceLoad("a/m", "m", False)
    assert view.loads([instance()], [seen], []) == {"a/m": [0] + [None] * 7}


def test_the_load_ahead_is_told_in_seconds_by_the_pace_of_the_instance() -> None:
    made = recent()
    # Ten iterations of 100 ms: a second between two values, a cell is half of one.
    made.observe(record(end_to_end_us=2 * S))
    shares = view.ahead([anticipating(100, 300, 500, 0)], made)["a/m"]
    assert shares[:7] == [100, 200, 300, 400, 500, 250, 0]
    assert len(shares) == view.CELL_COUNT


def test_an_instance_that_has_not_answered_yet_is_taken_to_have_a_usual_pace() -> None:
    shares = view.ahead([anticipating(100, 300, step=20)], recent())["a/m"]
    assert shares[:2] == [100, 300]


def test_replicas_anticipate_their_own_requests_which_add_up() -> None:
    assert view.ahead([anticipating(100, step=20), anticipating(50, step=20)], recent())["a/m"][0] == 150


def test_nothing_is_anticipated_of_a_cache_of_unknown_size_and_an_empty_one_stays_empty() -> None:
    assert view.ahead([anticipating(100, kv_tokens_max=0)], recent()) == {}
    assert view.ahead([anticipating(0, 0)], recent()) == {"a/m": [0] * view.CELL_COUNT}


def test_what_waits_adds_up_by_model_and_class_with_the_oldest_and_the_first_due() -> None:
    def group(number: int, oldest_us: int, due_us: int, stored: bool = False) -> WaitingGroup:
        return WaitingGroup(
            model="m",
            slo_class=slo_pb2.SLO_CLASS_DEFERRED,
            request_count=number,
            mean_tokens=10.4 * number,
            oldest_time=stamp(oldest_us),
            due_time=stamp(due_us),
            stored=stored,
        )

    waiting = [
        group(2, NOW - 5 * S, NOW + 9 * S),
        group(1, NOW - 7 * S, NOW + 8 * S),
        group(30, NOW - S, NOW + 99 * S, True),
    ]
    rows = view.queues([SchedulerSays(pressure=Pressure(waiting=waiting))])
    assert rows == {
        "m|deferred": {
            "model": "m",
            "class": "deferred",
            "held": 3,
            "stored": 30,
            "oldest": (NOW - 7 * S) // 1_000,
            "due": (NOW + 8 * S) // 1_000,
            "tokens": 21 + 10 + 312,
        }
    }


def test_all_of_the_fleet_is_in_its_sections() -> None:
    part = Part("scheduler", "h:1", False, NOW, "it does not answer; wait")
    model = ModelLoad("m", 1, 2, 3, 4, 0.1234567, 0.2, 50, 60)
    snapshot = Snapshot(NOW, (InstanceLoad("a/m", "m", True),), (model,))
    seen = Seen(
        NOW, snapshot, [instance(state_us=NOW - S, state_reason="why", kv_tokens_max=9)], [part], [SchedulerSays()]
    )
    found = view.fleet_sections(seen, recent())
    assert found["parts"] == {
        "scheduler h:1": {
            "kind": "scheduler",
            "address": "h:1",
            "up": False,
            "since": NOW // 1_000,
            "note": "it does not answer; wait",
        }
    }
    assert found["instances"]["a/m"]["state"] == "ready"
    assert (found["instances"]["a/m"]["pool"], found["instances"]["a/m"]["why"]) == ("m", "why")
    assert found["models"]["m"]["ttft_p50_s"] == 0.1235
    assert found["promises"]["interactive_fast"] == {"ttft_s": 1.0, "tpot_ms": 200.0, "answer_s": 0.0}


def test_an_autoscaler_that_is_away_says_nothing() -> None:
    assert view.scaling_sections(None) == {"fleet": {}, "pools": {}, "scaling": {}}


def test_a_pool_is_told_with_its_reason_and_what_binds_it() -> None:
    pool = ModelFleet(
        model="m",
        pool="m-west",
        bounds=Bounds(model="m", instances_min=1, instances_max=4),
        instances_wanted=3,
        ready_count=2,
        reason="more comes",
        bound_by="the budget",
        gpu="H100",
        gpu_count=2,
    )
    decision = ScalingDecision(
        decision_id="d", model="m", instances_after=3, mode=Mode.MODE_ADVISORY, inputs={"b": 0.123456, "a": 1}
    )
    says = AutoscalerSays(
        GetFleetResponse(models=[pool], mode=Mode.MODE_ACTIVE, policy="kpa", warnings=["w"]), [decision]
    )
    found = view.scaling_sections(says)
    assert found["fleet"]["now"] == {"policy": "kpa", "mode": "active", "leader": "", "warnings": ["w"]}
    row = found["pools"]["m|m-west"]
    assert (row["wanted"], row["ready"], row["bound_by"], row["gpu"]) == (3, 2, "the budget", "2× H100")
    assert found["scaling"]["d"]["inputs"] == {"a": 1, "b": 0.1235}
    assert found["scaling"]["d"]["mode"] == "advisory"


def test_what_replicas_compared_of_a_shadow_adds_up_and_its_costs_are_means() -> None:
    def shadow(compared: int, different: int, mean: float) -> Shadow:
        cost = ShadowCost(name="work ahead", unit="tokens", mean=mean)
        row = ShadowRow(kind="router", model="m", compared_count=compared, different_count=different, costs=[cost])
        return Shadow(name="paper", policies={"router": "preserve_paper"}, rows=[row])

    (row,) = view.shadows([shadow(10, 1, 8.0), shadow(30, 5, 4.0)]).values()
    assert (row["policy"], row["compared"], row["different"]) == ("preserve_paper", 40, 6)
    assert row["costs"] == {"work ahead": [5.0, "tokens"]}


def test_length_models_are_the_one_that_answers_and_its_shadows() -> None:
    trial = ShadowTrial(outcome_count=8, active_loss_tokens=3.456, shadow_loss_tokens=2.0)
    models = [
        PredictorModel(name="a", version="3", active=True),
        PredictorModel(name="b", shadow=True, trial=trial),
        PredictorModel(name="c"),
    ]
    found = view.trials(PredictorSays(models=models))
    assert list(found) == ["a@3", "b"]
    assert (found["b"]["outcomes"], found["b"]["active_loss"]) == (8, 3.46)
    assert view.trials(None) == {}


def test_accuracy_is_told_by_predictor_and_model_over_all_applications() -> None:
    def row(application: str, count: int, error: float, **coverage: float) -> PredictorAccuracy:
        return PredictorAccuracy(
            predictor="p@1", model="m", application=application, outcome_count=count, mae_tokens=error, **coverage
        )

    (found,) = view.accuracy(PredictorSays([row("x", 10, 20.0, coverage_p90=0.9), row("y", 30, 40.0)])).values()
    assert (found["count"], found["mae_tokens"], found["within_p90"], found["drifting"]) == (40, 35.0, 0.9, False)
