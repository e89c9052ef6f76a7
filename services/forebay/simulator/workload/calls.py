"""Calls of sessions and programs, gathered one by one into a workload."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forebay.simulator.workload.base import Ints, Workload, make_workload, ragged, renumbered
from forebay.simulator.workload.growing import Text, Writer


@dataclass(slots=True)
class Calls:
    """A row a call, in the order in which they are added. A child's arrival is the earliest possible: as if every
    answer took no time."""

    writer: Writer
    arrival_us: list[int] = field(default_factory=list)
    prompt_tokens: list[int] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)
    program: list[int] = field(default_factory=list)
    think_us: list[int] = field(default_factory=list)
    parents: list[Sequence[int]] = field(default_factory=list)
    blocks: list[Sequence[int]] = field(default_factory=list)

    def add(
        self, program: int, prompt: Text, output_tokens: int, parents: Sequence[int], start_us: int, think_us: int
    ) -> int:
        """Adds a call that comes `think_us` after its parents, or without any `think_us` after the program's start."""
        earliest_us = max((self.arrival_us[parent] for parent in parents), default=start_us)
        self.arrival_us.append(earliest_us + think_us)
        self.prompt_tokens.append(prompt.tokens)
        self.output_tokens.append(output_tokens)
        self.program.append(program)
        self.think_us.append(think_us if parents else 0)
        self.parents.append(parents)
        self.blocks.append(self.writer.prompt_blocks(prompt))
        return len(self.arrival_us) - 1

    def workload(self, model: str, block_tokens: int, note: str) -> Workload:
        """The calls in order of their arrivals."""
        order = np.argsort(self.arrival_us, kind="stable")
        return make_workload(
            _picked(self.arrival_us, order),
            _picked(self.prompt_tokens, order),
            _picked(self.output_tokens, order),
            program=_picked(self.program, order),
            think_us=_picked(self.think_us, order),
            parents=renumbered(ragged(self.parents), order),
            blocks=ragged(self.blocks).take(order),
            block_tokens=block_tokens,
            names={"models": (model,)},
            notes=(note,),
        )


def _picked(values: list[int], order: Ints) -> Ints:
    picked: Ints = np.array(values, dtype=np.int64)[order]
    return picked
