"""One frame of `forebay top` shows what is there and names who is away."""

from lmaas.autoscaler.v1.autoscaler_service_pb2 import GetFleetResponse
from lmaas.autoscaler.v1.fleet_pb2 import ModelFleet
from lmaas.common.v1.instance_pb2 import Instance, InstanceState
from lmaas.metrics.v1.snapshot_pb2 import InstanceLoad, ModelLoad, Snapshot
from lmaas.predictor.v1.length_pb2 import PredictorAccuracy
from lmaas.scheduler.v1.pressure_pb2 import InstanceAnticipation
from rich.console import Console

from forebay.cli.console import WIDTH
from forebay.cli.top import Frame, add_peaks, frame_json, render
from forebay.cli.view import View

SERVING = {"metrics": True, "predictor": True, "autoscaler": True, "scheduler": True, "gateway": True}


def frame() -> Frame:
    instance = Instance(instance_id="gpu-1/m", model="m", state=InstanceState.INSTANCE_STATE_READY)
    fleet = GetFleetResponse(
        models=[ModelFleet(model="m", pool="east", instances_wanted=2, ready_count=1)], instances=[instance]
    )
    load = InstanceLoad(instance_id="gpu-1/m", model="m", reachable=True, running_count=7, kv_utilization=0.25)
    snapshot = Snapshot(instances=[load], models=[ModelLoad(model="m", response_tokens=6_000)])
    accuracy = PredictorAccuracy(predictor="knn", model="m", application="chat", outcome_count=500, coverage_p90=0.9)
    return Frame(View(dict(SERVING), fleet=fleet, snapshot=snapshot), {"gpu-1/m": 0.625}, [accuracy])


def text(one: Frame) -> str:
    console = Console(width=WIDTH)
    with console.capture() as captured:
        console.print(render(one))
    return captured.get()


def test_an_instance_stands_with_what_it_has_and_what_is_expected() -> None:
    row = next(line for line in text(frame()).splitlines() if line.strip().startswith("gpu-1/m"))
    assert [row.split()[index] for index in (1, 2, 5, 7)] == ["ready", "7", "25.0", "62.5"]


def test_a_pool_stands_with_its_plan_and_its_tokens_a_second() -> None:
    row = next(line for line in text(frame()).splitlines() if line.strip().startswith("m/east"))
    assert row.split()[:3] == ["m/east", "1", "2"]
    assert row.split()[7] == "100"


def test_an_instance_that_does_not_answer_is_marked() -> None:
    one = frame()
    assert one.view.snapshot is not None
    one.view.snapshot.instances[0].reachable = False
    assert "ready, silent" in text(one)


def test_who_is_away_is_named_and_the_rest_stays() -> None:
    one = frame()
    one.view.serving["predictor"] = False
    one.accuracy = []
    shown = text(one)
    assert "away: predictor;" in shown
    assert "gpu-1/m" in shown
    assert "Predicted against actual" not in shown


def test_with_everybody_away_there_still_is_a_frame() -> None:
    shown = text(Frame(View(dict.fromkeys(SERVING, False))))
    assert "away: metrics, predictor, autoscaler, scheduler, gateway" in shown


def test_what_several_schedulers_expect_adds_up_and_unknown_sizes_are_left_out() -> None:
    peaks: dict[str, float] = {}
    for _ in range(2):
        add_peaks(peaks, [InstanceAnticipation(instance_id="a", kv_tokens=[10, 30, 20], kv_tokens_max=100)])
    add_peaks(peaks, [InstanceAnticipation(instance_id="b", kv_tokens=[1])])
    assert peaks == {"a": 0.6}


def test_json_has_the_same_in_the_contracts_names() -> None:
    told = frame_json(frame())
    assert told["anticipated"] == {"gpu-1/m": 0.625}
    assert told["services"] == dict.fromkeys(SERVING, "up")
