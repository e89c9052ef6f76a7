"""Behaviour of the engine as scripts with expected transcripts; FOREBAY_REWRITE=1 writes them anew for review."""

import os
from pathlib import Path

import pytest

from tests.unit.autoscaler.script import Script

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "autoscaler"
SCRIPTS = sorted(FOLDER.glob("*.txt"))
MARK = "----"


def run(text: str) -> str:
    """The text with everything below each mark replaced by what really happens."""
    script, done = Script(), []
    for block in text.strip().split("\n\n"):
        head = block.split(f"\n{MARK}")[0]
        lines = [line for line in head.splitlines() if line and not line.startswith("#")]
        answers = [answer for line in lines for answer in script.command(line)]
        done.append("\n".join([head, *([MARK] if lines else []), *answers]))
    return "\n\n".join(done) + "\n"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_leads_to_its_transcript(path: Path) -> None:
    text = path.read_text()
    found = run(text)
    if os.environ.get("FOREBAY_REWRITE") == "1":
        path.write_text(found)
    else:
        assert found == text


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 5
