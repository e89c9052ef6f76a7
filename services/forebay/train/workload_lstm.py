"""Trains PreServe's workload predictor on many series with torch, and exports it to ONNX."""

import importlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forebay.predictor.policy.forecaster.lstm import HISTORY_COUNT, SCALED_MAX, SCALED_MIN
from forebay.predictor.traffic.series import Floats


@dataclass(frozen=True, slots=True)
class LstmSettings:
    """PreServe §4.1: hidden 64, MSE, Adam at 1e-3. Drawn are `window_count` windows of all series, not all of one."""

    hidden_count: int = 64
    window_count: int = 60_000
    epoch_count: int = 12
    batch_count: int = 128
    learning_rate: float = 1e-3
    seed: int = 42


def windows_of(series: Sequence[Floats], settings: LstmSettings) -> Floats:
    """Drawn windows [row, HISTORY_COUNT + 1], each series scaled by the least and the most of its first half."""
    rng = np.random.default_rng(settings.seed)
    found = []
    for one in series:
        filled = one[np.maximum.accumulate(np.where(np.isnan(one), 0, np.arange(len(one))))]
        filled = np.nan_to_num(filled)
        half = filled[: len(filled) // 2]
        span = float(np.ptp(half)) or 1.0
        scaled = np.clip((filled - half.min()) / span, SCALED_MIN, SCALED_MAX)
        rows = np.lib.stride_tricks.sliding_window_view(scaled, HISTORY_COUNT + 1)
        count = min(len(rows), settings.window_count // len(series))
        found.append(rows[rng.choice(len(rows), count, replace=False)])
    return np.concatenate(found)


def train_lstm(series: Sequence[Floats], settings: LstmSettings | None = None) -> tuple[bytes, float]:
    """The ONNX model trained on these series of requests [window] with NaN for gaps, and how far torch is from it.

    float32 [row, HISTORY_COUNT] in, [row, 1] out. Needs torch.
    """
    settings = settings or LstmSettings()
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    model = _network(torch, settings.hidden_count)
    rows = torch.tensor(windows_of(series, settings), dtype=torch.float32)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    for _ in range(settings.epoch_count):
        for batch in rows[torch.randperm(len(rows))].split(settings.batch_count):
            loss = torch.nn.functional.mse_loss(model(batch[:, :-1])[:, 0], batch[:, -1])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.eval()
    content = _exported(torch, model)
    return content, _distance(torch, model, content, rows[:512, :-1])


def _network(torch: Any, hidden_count: int) -> Any:
    class Network(torch.nn.Module):  # type: ignore[misc]
        """A plain LSTM and a linear head on its last state."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(1, hidden_count, batch_first=True)
            self.head = torch.nn.Linear(hidden_count, 1)

        def forward(self, windows: Any) -> Any:
            """The next value of each row."""
            return self.head(self.lstm(windows[:, :, None])[0][:, -1])

    return Network()


def _exported(torch: Any, model: Any) -> bytes:
    block = io.BytesIO()
    with warnings.catch_warnings():
        # The plain exporter is called old; batches of any size are tested.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2, HISTORY_COUNT),),
            block,
            input_names=["windows"],
            output_names=["next"],
            dynamic_axes={"windows": {0: "row"}, "next": {0: "row"}},
            opset_version=17,
            dynamo=False,
        )
    return block.getvalue()


def _distance(torch: Any, model: Any, content: bytes, rows: Any) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = model(rows).numpy()
    return float(np.abs(session.run(None, {"windows": rows.numpy()})[0] - wanted).max())
