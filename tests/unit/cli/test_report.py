"""What is printed fits 100 columns and says what the figures say."""

import json
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from lmaas.autoscaler.v1.autoscaler_service_pb2 import GetFleetResponse
from lmaas.autoscaler.v1.fleet_pb2 import Bounds, ModelFleet, ScalingDecision
from lmaas.common.v1.instance_pb2 import Instance
from lmaas.common.v1.length_pb2 import LengthQuantiles as LengthMessage
from lmaas.metrics.v1.snapshot_pb2 import InstanceLoad, Snapshot
from lmaas.scheduler.v1.decision_pb2 import Candidate, Decision, Flip, Verdict
from lmaas.scheduler.v1.scheduler_service_pb2 import ListInstancesResponse, ListQueuesResponse
from lmaas.scheduler.v1.status_pb2 import Queue, ScheduledInstance, ShadowRow
from rich.console import Console, RenderableType

from forebay.cli.console import seconds, share
from forebay.cli.explain import print_decision
from forebay.cli.fleet import FleetSample, ModelCount
from forebay.cli.proto_json import plain
from forebay.cli.report import as_json, print_report
from forebay.cli.state import addresses_from
from forebay.cli.stats import Result, summarise
from forebay.cli.status import render, view_json
from forebay.cli.view import View
from forebay.core.values import LengthQuantiles

WIDTH = 100


def shown(value: RenderableType) -> str:
    console = Console(width=WIDTH, highlight=False)
    with console.capture() as capture:
        console.print(value)
    return capture.get()


def results() -> list[Result]:
    predicted = LengthQuantiles(5, 10, 20, 30)
    good = [
        Result(
            n,
            "llama-8b",
            "chat",
            "interactive-fast",
            0.0,
            "ok",
            "",
            0.1 * n,
            2.0,
            12,
            "stop",
            f"d-{n}",
            "s/m",
            predicted,
        )
        for n in range(1, 12)
    ]
    return [*good, Result(12, "llama-8b", "chat", "interactive-fast", 0.0, "HELD_TOO_LONG")]


SAMPLES = [
    FleetSample(float(n), {"llama-8b": ModelCount(ready=1 + n // 30, starting=0, draining=0)}) for n in range(90)
]


def test_durations_are_short_and_exact_enough() -> None:
    assert [seconds(value) for value in (None, 0.0123, 0.9999, 1.0, 12.34, 75.0)] == [
        "–", "12.3 ms", "1 s", "1 s", "12.3 s", "1 m 15 s",
    ]  # fmt: skip
    assert [share(value) for value in (None, 0.5, 1.0)] == ["–", "50.0 %", "100.0 %"]


def test_the_report_of_a_load_says_all_and_fits() -> None:
    console = Console(width=WIDTH, highlight=False)
    with console.capture() as capture:
        print_report(console, summarise(results(), 60.0), SAMPLES, ["look there"])
    text = capture.get()
    for part in (
        "12 in 1 m 0 s: 11 answered, 1 failed",
        "132 tokens, 2.2 tokens/s",
        "p50 600 ms",
        "83.3 % with TTFT ≤ 1 s (10 of 12)",
        "median error 2 tokens",
        "predicted p90: 100.0 %",
        "HELD_TOO_LONG",
        "d-11",
        "look there",
    ):
        assert part in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_the_report_as_json_can_be_read_back() -> None:
    value = json.loads(json.dumps(as_json(summarise(results(), 60.0), SAMPLES[:1], {"seed": 1})))
    assert value["options"] == {"seed": 1}
    assert value["failures"] == {"HELD_TOO_LONG": 1}
    assert value["slowest"][0]["decision_id"] == "d-11"
    assert value["fleet"] == [{"at_s": 0.0, "models": {"llama-8b": {"ready": 1, "starting": 0, "draining": 0}}}]


def stamp() -> Timestamp:
    found = Timestamp()
    found.FromDatetime(datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC))
    return found


def decision() -> Decision:
    made = Decision(
        decision_id="d-1",
        request_id="r-1",
        decision_time=stamp(),
        verdict="VERDICT_PLACED",
        instance_id="local-1/llama-8b",
        policies={"router": "least_predicted_tokens"},
        inputs={"prompt_tokens": 12},
        predicted_length=LengthMessage(p10_tokens=1, p50_tokens=2, p90_tokens=3, p97_tokens=4),
        predicted_by="histogram",
        candidates=[
            Candidate(instance_id="local-1/llama-8b", score=10, eligible=True, inputs={"predicted_tokens": 10}),
            Candidate(instance_id="local-2/llama-8b", score=0, eligible=False, reason="draining"),
        ],
        flip=Flip(instance_id="local-2/llama-8b", input="predicted_tokens"),
        reason="local-1/llama-8b has the fewest predicted tokens",
    )
    made.flip.MergeFromString(Flip(**{"from": 10.0, "to": 25.0}).SerializeToString())  # type: ignore[arg-type]
    return made


def test_a_placement_is_explained_with_winner_losers_and_flip() -> None:
    console = Console(width=WIDTH, highlight=False)
    with console.capture() as capture:
        print_decision(console, decision())
    text = " ".join(capture.get().split())
    for part in (
        "local-1/llama-8b has the fewest predicted tokens",
        "placed local-1/llama-8b",
        "no: draining",
        "p10 1 p50 2 p90 3 p97 4 tokens, by histogram",
        "It would have gone to local-2/llama-8b if predicted_tokens had been 25 instead of 10.",
    ):
        assert part in text


def test_a_refusal_speaks_of_no_score_and_a_placement_of_its_shadows() -> None:
    refused, placed = decision(), decision()
    refused.verdict = Verdict.VERDICT_RETRY
    placed.shadows.update({"paper": "local-2/llama-8b", "own": ""})
    texts = []
    for one in (refused, placed):
        console = Console(width=WIDTH, highlight=False)
        with console.capture() as capture:
            print_decision(console, one)
        texts.append(" ".join(capture.get().split()))
    assert "would have gone" not in texts[0]
    assert "shadows own held, paper local-2/llama-8b" in texts[1]


def test_what_is_zero_is_told_in_json_too() -> None:
    assert plain(ShadowRow(kind="router", compared_count=3))["different_count"] == "0"
    assert plain(None) == {}


def test_a_scaling_decision_is_explained() -> None:
    made = ScalingDecision(
        decision_id="s-1",
        model="llama-8b",
        decision_time=stamp(),
        instances_before=1,
        instances_wanted=9,
        instances_after=4,
        policy="kpa",
        inputs={"in_flight_mean": 70.5},
        reason="load asks for 9, the bound is 4",
        mode="MODE_ACTIVE",
    )
    console = Console(width=WIDTH, highlight=False)
    with console.capture() as capture:
        print_decision(console, made)
    text = capture.get()
    assert "1 → 4 (the policy wanted 9)" in text
    assert "in_flight_mean 70.5" in text


def full_view() -> View:
    instance = Instance(
        instance_id="llama-8b-1/llama-8b", model="llama-8b", grpc_address="127.0.0.1:1", state="INSTANCE_STATE_READY"
    )
    return View(
        serving={"metrics": True, "predictor": False, "autoscaler": True, "scheduler": True, "gateway": True},
        fleet=GetFleetResponse(
            instances=[instance],
            models=[ModelFleet(model="llama-8b", bounds=Bounds(instances_min=1, instances_max=4), ready_count=1)],
            mode="MODE_ACTIVE",
            policy="kpa",
        ),
        instances=ListInstancesResponse(
            instances=[ScheduledInstance(instance=instance, lease_count=3, predicted_tokens=456)]
        ),
        queues=ListQueuesResponse(queues=[Queue(model="llama-8b", held_count=2, lease_count=3)]),
        snapshot=Snapshot(instances=[InstanceLoad(instance_id="llama-8b-1/llama-8b", reachable=True, running_count=3)]),
        decisions=[ScalingDecision(decision_id="s-1", model="llama-8b", reason="load", decision_time=stamp())],
    )


def test_the_status_page_shows_services_fleet_and_load_and_fits() -> None:
    text = shown(render(full_view(), addresses_from(7000)))
    for part in ("down", "kpa, active", "llama-8b-1/llama-8b", "456", "1–4", "03:04:05"):
        assert part in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_the_status_page_shows_the_services_when_none_of_them_answers() -> None:
    view = View(serving=dict.fromkeys(("metrics", "scheduler"), False))
    text = shown(render(view, addresses_from(7000)))
    assert text.count("down") == 2


def test_while_the_autoscaler_is_away_the_fleet_is_what_the_scheduler_heard_last() -> None:
    view = full_view()
    view.fleet = None
    assert "llama-8b-1/llama-8b" in shown(render(view, addresses_from(7000)))


def test_the_status_as_json_uses_the_contracts_names() -> None:
    value = json.loads(json.dumps(view_json(full_view())))
    assert value["services"]["predictor"] == "down"
    assert value["fleet"]["models"][0]["ready_count"] == 1
    assert value["instances"][0]["lease_count"] == 3
    assert value["queues"][0]["held_count"] == 2
