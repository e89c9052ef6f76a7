"""Scripts of the instance model: commands, `----`, and what happens; blocks are parted by an empty line.

    profile KEY=VALUE ...                         an engine of 1,000 + 10 a token + 3 a decode + 2 a context token (ps)
                                                  with any flag of `EngineFlags`, and batcher=NAME[:PARAMETERS]
    arrive NAME prompt=N output=N [hit=N] [max=N] [priority=N] [predicted=N] [session=N] at=T
    cancel NAME at=T | evict NAME at=T | crash at=T | hang at=T | resume at=T
    advance T                                     every token that appears until T, then the state

`python tests/scripts/instance/test_scripts.py --rewrite` writes what happens now; review it as a diff.
"""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from forebay.core.instance import EngineFlags, EngineProfile, EngineRequest, InstanceModel
from forebay.core.instance.batcher import make_batcher
from forebay.core.instance.hints import Hints

FOLDER = Path(__file__).parent
SCRIPTS = sorted(FOLDER.glob("*.txt"))
FLAGS = [field.name for field in fields(EngineFlags)]
Values = dict[str, Any]


class Interpreter:
    """Runs the commands of one script on one instance."""

    def __init__(self) -> None:
        self.instance = self._make({})

    def run(self, line: str) -> list[str]:
        """What one command prints."""
        verb, *words = line.split()
        pairs = (word.partition("=") for word in words)
        values = {key: int(value) if value.isdigit() else value for key, _, value in pairs if value}
        names = [word for word in words if "=" not in word]
        return self._verbs(verb, names, values)

    def _verbs(self, verb: str, names: list[str], values: Values) -> list[str]:
        if verb == "profile":
            self.instance = self._make(values)
            return []
        if verb == "arrive":
            return self._arrive(names[0], values)
        if verb == "cancel":
            return [] if self.instance.cancel(names[0], values["at"]) else [f"{names[0]} is not here"]
        if verb == "advance":
            return self._advance(int(names[0]))
        if verb == "evict":
            return [str(self.instance.evict(names[0], values["at"]))]
        if verb == "crash":
            return [f"lost {' '.join(self.instance.crash(values['at']))}"]
        act = {"hang": self.instance.hang, "resume": self.instance.resume}[verb]
        act(values["at"])
        return [f"next {self.instance.next_ps}"]

    def _make(self, values: Values) -> InstanceModel:
        limits = {"kv_tokens": 64, "max_seqs": 4, "block_size": 4}
        limits.update({key: value for key, value in values.items() if key in limits})
        budget = values.get("max_batch_tokens", 16)
        flags = {key: value for key, value in values.items() if key in FLAGS}
        profile = EngineProfile(
            name="script",
            status="uncalibrated",
            iteration_ps=(0, *(1000 + 10 * tokens for tokens in range(1, budget + 1))),
            decode_ps=3,
            context_token_ps=2,
            prefill_ps=50,
            half_pair_fixed=1024,
            prefill_token_fixed=0,
            **limits,
        )
        return InstanceModel(profile, EngineFlags(**flags), make_batcher(values.get("batcher", "chunked_prefill")))

    def _arrive(self, name: str, values: Values) -> list[str]:
        optional = {"hit_tokens": "hit", "output_tokens_max": "max", "priority": "priority"}
        given = {field: values[word] for field, word in optional.items() if word in values}
        hints = Hints(predicted_tokens=values.get("predicted", 0), session_tokens=values.get("session", 0))
        request = EngineRequest(name, values["prompt"], values["output"], **given, hints=hints)
        if self.instance.arrive(request, values["at"]):
            return []
        return [f"refused: {self.instance.refusal(request)}"]

    def _advance(self, until_ps: int) -> list[str]:
        told: dict[int, list[str]] = {}
        for event in self.instance.advance(until_ps):
            told.setdefault(event.at_ps, []).append(
                f"{event.request_id}{event.token_count}{'.' if event.finished else ''}"
            )
        view = self.instance.view()
        state = (
            f"running {view.running_count} (prefill {view.prefill_count}) waiting {view.waiting_count} "
            f"cached {view.context_tokens} free {view.free_block_count}/{view.block_count} "
            f"preempted {view.preemption_count} next {view.next_ps}"
        )
        return [*(f"{at_ps} {' '.join(tokens)}" for at_ps, tokens in told.items()), state]


def played(script: str) -> str:
    """The script with what happens now in place of what it expects."""
    interpreter, blocks = Interpreter(), []
    for block in script.strip().split("\n\n"):
        commands, _, _ = block.partition("\n----")
        printed = [line for command in commands.splitlines() for line in _run(interpreter, command)]
        blocks.append("\n".join([commands, "----", *printed]) if "\n----" in block else commands)
    return "\n\n".join(blocks) + "\n"


def _run(interpreter: Interpreter, command: str) -> list[str]:
    return [] if command.startswith("#") else interpreter.run(command)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_script_happens_as_written(path: Path) -> None:
    assert played(path.read_text()) == path.read_text()


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 5


if __name__ == "__main__" and "--rewrite" in sys.argv:
    for path in SCRIPTS:
        path.write_text(played(path.read_text()))
