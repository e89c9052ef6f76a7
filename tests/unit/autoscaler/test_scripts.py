"""Behaviour of the engine as scripts with expected transcripts; FOREBAY_REWRITE=1 writes them anew for review."""

from pathlib import Path

import pytest

from tests.unit.autoscaler.script import Script
from tests.unit.transcripts import check, scripts

SCRIPTS = scripts("autoscaler")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_leads_to_its_transcript(path: Path) -> None:
    check(path, Script().command)


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 5
