"""Scripts with their transcripts: blocks of commands, and under a mark what they answer."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

MARK = "----"
FOLDER = Path(__file__).resolve().parents[1] / "scripts"


def scripts(name: str) -> list[Path]:
    """The scripts of a part."""
    return sorted((FOLDER / name).glob("*.txt"))


def check(path: Path, command: Callable[[str], Iterable[str]]) -> None:
    """Runs a script; its transcript must be what is there. FOREBAY_REWRITE=1 writes it anew for review."""
    text = path.read_text()
    found = replayed(text, command)
    if os.environ.get("FOREBAY_REWRITE") == "1":
        path.write_text(found)
    else:
        assert found == text


def replayed(text: str, command: Callable[[str], Iterable[str]]) -> str:
    """The text with everything below each mark replaced by what really happens."""
    done = []
    for block in text.strip().split("\n\n"):
        head = block.split(f"\n{MARK}")[0]
        lines = [line for line in head.splitlines() if line and not line.startswith("#")]
        answers = [answer for line in lines for answer in command(line)]
        done.append("\n".join([head, *([MARK] if lines else []), *answers]))
    return "\n\n".join(done) + "\n"
