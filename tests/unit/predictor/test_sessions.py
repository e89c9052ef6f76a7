import logging
from pathlib import Path

import pytest

from forebay.core.errors import FailedPrecondition
from forebay.predictor.sessions import CPU, CUDA, OnnxSession, choose_providers


@pytest.fixture
def device(tmp_path: Path) -> Path:
    (tmp_path / "nvidia0").touch()
    return tmp_path


@pytest.mark.parametrize("wanted", ["auto", "cuda", "cpu"])
def test_without_a_device_models_run_on_the_cpu(wanted: str, tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    assert choose_providers(wanted, tmp_path) == [CPU]


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_with_a_device_cuda_is_asked_for_first(wanted: str, device: Path) -> None:
    assert choose_providers(wanted, device) == [CUDA, CPU]


def test_cpu_means_cpu(device: Path) -> None:
    assert choose_providers("cpu", device) == [CPU]


def test_a_missing_device_is_told_where_it_was_wanted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        choose_providers("cuda", tmp_path)
    assert "no NVIDIA device" in caplog.text


def test_what_is_not_a_model_cannot_be_opened() -> None:
    with pytest.raises(FailedPrecondition, match="cannot open"):
        OnnxSession(b"not a model", [CPU], 1)
