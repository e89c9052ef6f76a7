"""Policies that only the replays know."""

import pytest

from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from tests.parity.scenarios import Listening


@pytest.fixture(autouse=True)
def listening(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both worlds know a policy that wants to hear everything."""
    monkeypatch.setitem(AUTOSCALERS, "listening", Listening)
