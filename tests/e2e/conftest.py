"""Fixtures of the end-to-end tests."""

from collections.abc import Iterator

import pytest

from tests.e2e.running_stack import RunningStack, marked, start


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One stack for the tests of a module; when it has ended no process of it is left."""
    running = start(tmp_path_factory.mktemp("stack"))
    run_id = running.run.run_id
    try:
        yield running
    finally:
        running.stop()
    assert marked(run_id) == []
