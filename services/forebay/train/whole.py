"""Fits an encoder as a whole, all its layers and a head on it, with torch."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from forebay.core.prediction import QUANTILE_LEVELS
from forebay.train.export_finetuned import GAPS, HEAD, KNOWN, MIDDLE
from forebay.train.network import GAP_MIN
from forebay.train.prompt_tuning import Layer
from forebay.train.transformer import EPSILON, KINDS, PLACES, WORDS, Weights, layer_count

Matrix = npt.NDArray[np.float32]
Ids = Sequence[Sequence[int]]
"""The tokens of each prompt."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How it is fitted: about `seen_count` prompts pass, in `epoch_count_max` epochs at most.

    More passes still find better medians, but know the spread of what they have seen by heart, so that bounds must be
    wider. Fresh weights start from nothing, so they learn faster than the layers by their factors.
    """

    seen_count: int = 21_000
    epoch_count_max: int = 6
    batch_count: int = 32
    learning_rate: float = 6e-5
    head_factor: float = 20.0
    known_factor: float = 5.0
    decay: float = 0.01
    dropout: float = 0.1

    def epochs(self, count: int) -> int:
        """How often each of so many prompts passes."""
        return min(self.epoch_count_max, max(1, round(self.seen_count / max(1, count))))


@dataclass(frozen=True, slots=True)
class Shown:
    """What it learns from: tokens, what else is known (a row of numbers each), targets, and whether they are cut."""

    ids: Ids
    plain: Matrix
    targets: Matrix
    is_cut: npt.NDArray[np.bool_]


class Whole(nn.Module):  # type: ignore[misc]
    """An encoder whose first token also sees what else is known, and a linear head on its mean and first state."""

    def __init__(self, weights: Weights, plain_count: int, head_count: int, dropout: float) -> None:
        super().__init__()
        self.words, self.places, self.kind = (torch.tensor(weights[name]) for name in (WORDS, PLACES, KINDS))
        size = self.words.shape[1]
        self.norm = nn.LayerNorm(size, eps=EPSILON)
        for part in ("weight", "bias"):
            getattr(self.norm, part).data = torch.tensor(weights[f"embeddings.LayerNorm.{part}"])
        wide = weights["encoder.layer.0.intermediate.dense.bias"].shape[0]
        self.layers = nn.ModuleList(Layer(size, wide, head_count, dropout) for _ in range(layer_count(weights)))
        for number, layer in enumerate(self.layers):
            layer.load(dict(weights), f"encoder.layer.{number}")
        self.drop = nn.Dropout(dropout)
        self.known = nn.Linear(plain_count, size, bias=False)
        self.head = nn.Linear(2 * size + plain_count, len(QUANTILE_LEVELS))
        for one in (self.known.weight, self.head.weight, self.head.bias):
            nn.init.zeros_(one)

    def start(self, weights: Weights, targets: Matrix) -> None:
        """Sets the head to that of an earlier model where `weights` have one, else to the quantiles of the targets."""
        if KNOWN in weights:
            self.known.weight.data = torch.tensor(weights[KNOWN])
            self.head.weight.data = torch.tensor(weights[f"{HEAD}.weight"])
            self.head.bias.data = torch.tensor(weights[f"{HEAD}.bias"])
            return
        low, middle, high, higher = np.quantile(targets.astype(np.float64), QUANTILE_LEVELS)
        gaps = np.log(np.expm1(np.maximum([middle - low, 1.0, high - middle, higher - high], GAP_MIN)))
        gaps[1] = middle
        self.head.bias.data = torch.tensor(gaps, dtype=torch.float32)

    def forward(self, ids: Any, mask: Any, plain: Any) -> Any:
        """Targets at each level, which never decrease."""
        states = self.norm(self.words[ids] + self.places[: ids.shape[1]] + self.kind[0])
        states = torch.cat((states[:, :1] + self.known(plain)[:, None], states[:, 1:]), dim=1)
        states = self.drop(states)
        for layer in self.layers:
            states = layer(states, mask)
        states = states.float()
        mean = (states * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        raw = self.head(self.drop(torch.cat((mean, states[:, 0], plain), dim=1))).float()
        return raw @ torch.tensor(MIDDLE) + functional.softplus(raw) @ torch.tensor(GAPS)

    def weights(self) -> dict[str, Matrix]:
        """What learnt, under published names and those above."""
        own = {
            KNOWN: self.known.weight,
            f"{HEAD}.weight": self.head.weight,
            f"{HEAD}.bias": self.head.bias,
            "embeddings.LayerNorm.weight": self.norm.weight,
            "embeddings.LayerNorm.bias": self.norm.bias,
        }
        found = {name: one.detach().numpy().copy() for name, one in own.items()}
        for number, layer in enumerate(self.layers):
            found |= layer.weights(f"encoder.layer.{number}")
        return found


def fit(
    weights: Weights, head_count: int, shown: Shown, settings: Settings, seed: int, on_part: Callable[[float], None]
) -> Whole:
    """Learns by the pinball loss; the rate rises for a tenth of the steps and then falls to nothing.

    Starts from `weights`, those of an earlier `Whole` too. Calls `on_part` with the share that is done, batch by batch.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Whole(weights, shown.plain.shape[1], head_count, settings.dropout)
    model.start(weights, shown.targets)
    optimizer = torch.optim.AdamW(_groups(model, settings), weight_decay=settings.decay, fused=True)
    plan = [part for _ in range(settings.epochs(len(shown.ids))) for part in batches(shown.ids, settings, rng)]
    model.train()
    for step, chosen in enumerate(plan):
        for group in optimizer.param_groups:
            group["lr"] = group["full"] * min(1.0, 10 * (step + 1) / len(plan)) * max(0.02, 1 - step / len(plan))
        with torch.autocast("cpu", torch.bfloat16, enabled=_halves()):
            found = model(*_inputs(shown.ids, shown.plain, chosen))
        loss = _pinball(found, torch.tensor(shown.targets[chosen]), torch.tensor(shown.is_cut[chosen]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        on_part((step + 1) / len(plan))
    model.eval()
    return model


def predict(model: Whole, ids: Ids, plain: Matrix) -> Matrix:
    """Targets at each level of each prompt."""
    found = np.empty((len(ids), len(QUANTILE_LEVELS)), dtype=np.float32)
    with torch.no_grad():
        for chosen in batches(ids, Settings(), None):
            found[chosen] = model(*_inputs(ids, plain, chosen)).numpy()
    return found


def batches(ids: Ids, settings: Settings, rng: np.random.Generator | None) -> Iterator[npt.NDArray[np.int64]]:
    """Places of prompts of about the same length, in an order drawn by `rng`, if any."""
    sizes = np.array([len(row) for row in ids], dtype=np.float64)
    order = np.argsort(sizes if rng is None else sizes + 6 * rng.random(len(ids)), kind="stable")
    parts = np.array_split(order, math.ceil(len(order) / settings.batch_count)) if len(order) else []
    for place in range(len(parts)) if rng is None else rng.permutation(len(parts)):
        yield parts[place]


def _groups(model: Whole, settings: Settings) -> list[dict[str, Any]]:
    rate = settings.learning_rate
    fresh = {"known": settings.known_factor, "head": settings.head_factor}
    parts = {"norm": 1.0, "layers": 1.0, **fresh}
    return [
        {"params": list(getattr(model, name).parameters()), "lr": rate, "full": rate * factor}
        for name, factor in parts.items()
    ]


def _inputs(ids: Ids, plain: Matrix, chosen: npt.NDArray[np.int64]) -> tuple[Any, Any, Any]:
    rows = np.zeros((len(chosen), max(len(ids[place]) for place in chosen)), dtype=np.int64)
    for row, place in zip(rows, chosen, strict=True):
        row[: len(ids[place])] = ids[place]
    return torch.from_numpy(rows), torch.from_numpy((rows > 0).astype(np.float32)), torch.from_numpy(plain[chosen])


def _pinball(found: Any, targets: Any, is_cut: Any) -> Any:
    """Sum over the levels, mean over the prompts; a level above a cut loses nothing."""
    levels = torch.tensor(QUANTILE_LEVELS)
    under = targets[:, None] - found
    over = torch.where(is_cut[:, None], torch.zeros(()), (levels - 1) * under)
    return torch.maximum(levels * under, over).sum(dim=1).mean()


def _halves() -> bool:
    """Whether this processor multiplies numbers of 16 bits fast."""
    return str(torch.backends.cpu.get_cpu_capability()).startswith(("AVX512", "AMX"))
