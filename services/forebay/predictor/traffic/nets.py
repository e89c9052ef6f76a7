"""Small trained networks that forecasters run, opened once in each process."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from forebay.predictor.traffic.fitting import ForecastFailed
from forebay.predictor.traffic.series import Floats

# It would tell its makers how it is used.
onnxruntime.disable_telemetry_events()

FOLDER = Path(__file__).parent / "forecasts"
BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class StoredNet:
    """A network by the path of its ONNX file, as seen from those that ship; a plain value that any process can open."""

    path: str

    def run(self, inputs: Floats) -> Floats:
        """The network's answer [row] to float32 inputs. Raises ForecastFailed where it cannot be opened or run."""
        session = _session(str(FOLDER / self.path))
        try:
            found = session.run(None, {session.get_inputs()[0].name: inputs.astype(np.float32)})[0]
        except Exception as error:  # onnxruntime's errors have no common base
            raise ForecastFailed(f"{self.path}: onnxruntime failed: {error}") from error
        answer: Floats = found.reshape(len(inputs)).astype(np.float64)
        return answer


def _refuse_strange(path: Path, content: bytes) -> None:
    """Raises ForecastFailed for what is too big, or is not what the description beside it names by its digest."""
    if len(content) > BYTES_MAX:
        raise ForecastFailed(f"{path} has {len(content):,} bytes, more than any forecaster's")
    description = path.with_suffix(".json")
    if description.exists():
        wanted = json.loads(description.read_text()).get("onnx_sha256")
        if wanted != hashlib.sha256(content).hexdigest():
            raise ForecastFailed(f"{path} is not the network that {description.name} describes; install it again")


@lru_cache(maxsize=16)
def _session(path: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        content = Path(path).read_bytes()
        _refuse_strange(Path(path), content)
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except ForecastFailed:
        raise
    except Exception as error:  # onnxruntime's errors have no common base
        raise ForecastFailed(f"{path} cannot be opened: {error}; train it again with forebay.train.workload") from error
