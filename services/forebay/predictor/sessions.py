"""Opens ONNX models with onnxruntime on the processor that the configuration allows and the machine has."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt
import onnxruntime

from forebay.core.errors import FailedPrecondition
from forebay.predictor.policy.length import PredictionFailed

log = logging.getLogger(__name__)

# It would tell its makers how it is used.
onnxruntime.disable_telemetry_events()

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

Feeds: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""What a session is run with: an array an input, one row a prompt."""


def choose_providers(wanted: str, devices: Path = Path("/dev")) -> list[str]:
    """The execution providers to ask for: CUDA first where `wanted` is not "cpu" and a device is there.

    onnxruntime lists CUDA on machines without one, so the device itself is looked for.
    """
    present = any(devices.glob("nvidia[0-9]*"))
    if wanted == "cuda" and not present:
        log.warning("provider is cuda, but there is no NVIDIA device; models run on the CPU")
    offered = CUDA in onnxruntime.get_available_providers()
    return [CUDA, CPU] if wanted != "cpu" and present and offered else [CPU]


class OnnxSession:
    """One model in onnxruntime: arrays by the names of its inputs in, its first output out.

    `provider` is the execution provider that really runs it. Raises FailedPrecondition when it cannot be opened.
    """

    def __init__(self, content: bytes, providers: list[str], threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # onnxruntime's errors have no common base
            raise FailedPrecondition(f"onnxruntime cannot open the model: {error}") from error
        self.provider: str = self._session.get_providers()[0]
        log.info("model session opened", extra={"fields": {"provider": self.provider, "threads": threads}})

    @property
    def widths(self) -> dict[str, int]:
        """Columns that each input wants; 0 where any number will do."""
        shapes = {one.name: one.shape for one in self._session.get_inputs()}
        return {name: shape[1] if len(shape) > 1 and isinstance(shape[1], int) else 0 for name, shape in shapes.items()}

    def run(self, feeds: Feeds) -> npt.NDArray[Any]:
        """The first output for each row of the inputs. Raises PredictionFailed."""
        try:
            found: npt.NDArray[Any] = self._session.run(None, dict(feeds))[0]
        except Exception as error:  # onnxruntime's errors have no common base
            raise PredictionFailed(f"onnxruntime failed: {error}") from error
        return found
