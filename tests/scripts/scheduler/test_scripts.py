"""Runs the scripts beside this file: an event, `----`, the actions that must follow.

FOREBAY_REWRITE=1 writes the actions that really follow; the diff is then read by a person.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from forebay.core.scheduling import OpenLease, Placement, Rejected, Retry
from forebay.core.values import (
    Batching,
    Instance,
    InstanceLoad,
    InstanceState,
    LengthPrediction,
    Outcome,
    SloClass,
    WakeAt,
)
from forebay.scheduler.actions import Action, Migrate, Observe, Plan
from forebay.scheduler.config import Config
from forebay.scheduler.engine import Engine
from forebay.scheduler.policy import build
from tests.unit.scheduler.kit import S, instance, prediction, request

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))
CLASSES = {"fast": SloClass.INTERACTIVE_FAST, "normal": SloClass.INTERACTIVE_NORMAL, "deferred": SloClass.DEFERRED}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_script_s_actions_follow_from_its_events(script: Path) -> None:
    written = script.read_text()
    played = Player().play(written)
    if os.environ.get("FOREBAY_REWRITE") == "1":
        script.write_text(played)
    assert played == written


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 6


def test_a_script_with_a_wrong_action_fails() -> None:
    wrong = SCRIPTS[0].read_text().replace("place r1 on a/m", "place r1 on z/m")
    assert wrong != SCRIPTS[0].read_text()
    assert Player().play(wrong) != wrong


class Player:
    """Plays one script on one engine; each line of input starts with the time in seconds."""

    def __init__(self) -> None:
        self.engine = Engine(Config(), build(Config()), "s")
        self.now_us = 0

    def play(self, text: str) -> str:
        """The script with the actions that really follow."""
        blocks = [block for block in text.strip().split("\n\n") if block.strip()]
        return "\n\n".join(self._block(block) for block in blocks) + "\n"

    def _block(self, block: str) -> str:
        head, *_ = block.split("\n----")
        lines = [line for line in head.splitlines() if not line.startswith("#")]
        if not lines:
            return head
        said = [text for line in lines for text in self._line(line)]
        return "\n".join([head, "----", *(said or ["nothing"])])

    def _line(self, line: str) -> list[str]:
        first, *words = line.split()
        if first == "config":
            config = Config(**{key: _number(value) for key, value in map(_pair, words)})  # type: ignore[arg-type]
            self.engine = Engine(config, build(config), "s")
            return []
        if first in ("instances", "queues", "explain"):
            question: Callable[..., list[str]] = getattr(self, f"_{first}")
            return question(*words)
        self.now_us = round(float(first) * S)
        event: Callable[..., list[Action]] = getattr(self, f"_{words[0]}")
        return [_said(action) for action in event(*words[1:])]

    # Events

    def _fleet(self, *instances: str) -> list[Action]:
        return self.engine.on_fleet([_instance(text) for text in instances], self.now_us)

    def _arrive(self, request_id: str, *words: str) -> list[Action]:
        values = dict(map(_pair, words))
        wanted = request(
            request_id,
            values.get("model", "m"),
            int(values.get("prompt", 10)),
            tokens_max=int(values.get("tokens_max", 0)),
            slo_class=CLASSES[values.get("class", "normal")],
            excluded_instance_ids=frozenset(filter(None, values.get("exclude", "").split(","))),
            hold_timeout_us=round(float(values.get("hold", 0)) * S),
        )
        told = values.get("predicted", "50")
        guess: LengthPrediction | None = None if told == "none" else prediction(int(told))
        return self.engine.on_arrive(wanted, guess, self.now_us, values.get("gateway", ""))

    def _progress(self, lease_id: str, tokens: str) -> list[Action]:
        return self.engine.on_progress(lease_id, int(tokens), self.now_us)

    def _finish(self, lease_id: str, outcome: str, tokens: str) -> list[Action]:
        return self.engine.on_finish(lease_id, Outcome[outcome.upper()], int(tokens), self.now_us)

    def _cancel(self, request_id: str) -> list[Action]:
        return self.engine.on_cancel(request_id, self.now_us)

    def _resume(self, gateway_id: str, *leases: str) -> list[Action]:
        opened = []
        for text in leases:
            lease_id, request_id, instance_id, tokens = text.split(":")
            opened.append(OpenLease(request(request_id), lease_id, instance_id, int(tokens), prediction(50).quantiles))
        return self.engine.on_resume(gateway_id, opened, self.now_us)

    def _loads(self, *words: str) -> list[Action]:
        loads = [InstanceLoad(name, name.partition("/")[2], state == "up") for name, state in map(_pair, words)]
        return self.engine.on_loads(loads, self.now_us)

    def _drain(self, instance_id: str) -> list[Action]:
        return self.engine.on_drain(instance_id, self.now_us)

    def _wake(self) -> list[Action]:
        return self.engine.on_wake(self.now_us)

    def _mover(self) -> list[Action]:
        return self.engine.on_mover(self.now_us)

    def _moved(self, lease_id: str, instance_id: str) -> list[Action]:
        return self.engine.on_moved(lease_id, instance_id, self.now_us)

    # Questions

    def _instances(self) -> list[str]:
        return [
            f"{one.instance.instance_id} {one.instance.state.name.lower()}{' draining' if one.draining else ''}: "
            f"{one.lease_count} of {one.concurrency_cap} requests, {one.predicted_tokens} tokens"
            for one in self.engine.instances()
        ]

    def _queues(self) -> list[str]:
        return [
            f"{one.model}: {one.held_count} held, the oldest for {_seconds(one.oldest_held_us)}, {one.lease_count} run"
            for one in self.engine.queues(self.now_us)
        ]

    def _explain(self, decision_id: str) -> list[str]:
        decision = self.engine.explain(decision_id)
        flip = decision.flip
        flipped = f"{flip.input} {flip.from_value:g} -> {flip.to_value:g} gives {flip.instance_id}" if flip else "none"
        seen = [
            f"  {one.instance_id} {one.score:g} {one.reason or 'eligible'} "
            + " ".join(f"{name}={value:g}" for name, value in one.inputs.items())
            for one in decision.candidates
        ]
        return [decision.reason, *seen, f"flip: {flipped}"]


def _said(action: Action) -> str:
    match action:
        case Placement():
            quantiles = action.predicted
            lengths = f"{quantiles.p10}/{quantiles.p50}/{quantiles.p90}/{quantiles.p97}"
            batch = f" batch {action.batch_id} of {action.batch_count}" if action.batch_id else ""
            return (
                f"place {action.request_id} on {action.instance_id} lease {action.lease_id} "
                f"decision {action.decision_id} held {_seconds(action.held_us)} "
                f"predicted {lengths} by {action.predicted_by}{batch}"
            )
        case Rejected():
            return f"reject {action.request_id} {action.decision_id} {action.reason}: {action.message}"
        case Retry():
            delay = _seconds(action.retry_delay_us)
            return f"retry {action.request_id} {action.decision_id} in {delay} {action.reason}: {action.message}"
        case Migrate():
            return f"move {action.placement.request_id} from {action.placement.instance_id} to {action.instance_id}"
        case Plan():
            return f"plan {action.model}"
        case WakeAt(at_us):
            return f"wake at {_seconds(at_us)}"
        case Observe():
            return (
                f"observe {action.request.request_id} {action.generated_tokens}{' censored' if action.censored else ''}"
            )


def _instance(text: str) -> Instance:
    name, *settings = text.split(":")
    values = dict(map(_pair, settings))
    server, _, model = name.partition("/")
    return instance(
        server,
        model,
        state=InstanceState[values.get("state", "ready").upper()],
        concurrency_max=int(values.get("cap", 1)),
        context_tokens_max=int(values.get("context", 0)),
        kv_tokens_max=int(values.get("kv", 0)),
        batching=Batching[values.get("batching", "continuous").upper()],
    )


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def _number(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        return float(text) if text.replace(".", "", 1).isdigit() else text


def _seconds(us: int) -> str:
    return f"{us / S:g} s"
