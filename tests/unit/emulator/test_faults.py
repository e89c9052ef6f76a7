"""Faults are set by name, checked, told to those who listen, and held to the share that was asked for."""

import asyncio

import pytest

from forebay.core.errors import InvalidArgument, Unavailable
from forebay.emulator.faults import Faults, FaultState, ScheduledFault, parse_fault_option, parse_faults


class Crash(Exception):
    """The process would be gone."""


def crash() -> None:
    raise Crash


async def test_a_change_leaves_other_faults_as_they_are_and_is_told() -> None:
    faults = Faults(crash)
    heard: list[FaultState] = []
    faults.subscribe(heard.append)
    faults.change({"slow": 2})
    faults.change({"refuse": True})
    assert faults.state == FaultState(slow=2, refuse=1)
    assert heard == [FaultState(slow=2), FaultState(slow=2, refuse=1)]


async def test_a_crash_ends_the_process_at_once() -> None:
    with pytest.raises(Crash):
        Faults(crash).change({"crash": True})


async def test_the_gate_is_closed_while_the_server_hangs() -> None:
    faults = Faults(crash)
    await faults.gate()
    faults.change({"hang": True})
    waiting = asyncio.ensure_future(faults.gate())
    await asyncio.sleep(0)
    assert not waiting.done()
    faults.change({"hang": False})
    await waiting


@pytest.mark.parametrize(("share", "lowest", "highest"), [(0, 0, 0), (0.3, 250, 350), (1, 1000, 1000)])
async def test_the_share_of_refused_requests_is_kept(share: float, lowest: int, highest: int) -> None:
    faults = Faults(crash, seed=3)
    faults.change({"refuse": share})
    refused_count = 0
    for _ in range(1000):
        try:
            faults.check_refusal()
        except Unavailable:
            refused_count += 1
    assert lowest <= refused_count <= highest


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"slaw": 2}, "unknown fault 'slaw'; known: crash, hang, slow, refuse"),
        ({"slow": 0}, "slow must be between"),
        ({"slow": "nan"}, "slow must be between"),
        ({"refuse": 2}, "refuse must be between"),
        ({"hang": "perhaps"}, "could not convert"),
        ({"hang": None}, "could not convert"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        parse_faults(values)


def test_an_option_names_a_fault_a_value_and_a_time() -> None:
    assert parse_fault_option("hang") == ScheduledFault(0, {"hang": "1"})
    assert parse_fault_option("slow=2.5@30") == ScheduledFault(30, {"slow": "2.5"})
    with pytest.raises(InvalidArgument, match="unknown fault"):
        parse_fault_option("boom@3")
    with pytest.raises(InvalidArgument, match="such as slow=2@30"):
        parse_fault_option("crash@soon")
