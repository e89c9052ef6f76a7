"""The page's files: what is vendored is what it says, and nothing is inline or from elsewhere."""

import hashlib
import re

import pytest

from forebay.metrics.page.app import POLICY, STATIC

FILES = [path for path in STATIC.rglob("*") if path.is_file() and path.suffix in (".js", ".css", ".html", ".svg")]
OWN = [path for path in FILES if path.parent.name != "vendor"]


def test_what_is_vendored_has_the_digest_that_its_page_tells() -> None:
    told = dict(re.findall(r"\| `([\w.]+)` \| `(\w{64})` \|", (STATIC / "vendor" / "README.md").read_text()))
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (STATIC / "vendor").iterdir()
        if path.name != "README.md"
    }
    assert found == told
    assert len(found) == 3


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_no_file_of_the_page_asks_for_anything_elsewhere(path: object) -> None:
    text = re.sub(r'xmlns="[^"]+"', "", path.read_text())  # type: ignore[attr-defined]
    assert not re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text)


def test_nothing_is_inline() -> None:
    text = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY


def test_no_script_reads_what_the_system_tells_as_html() -> None:
    for path in OWN:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", path.read_text()), path


def test_the_files_of_the_page_stay_small() -> None:
    for path in OWN:
        assert len(path.read_text().splitlines()) <= 460, path
