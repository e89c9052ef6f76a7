"""Fits the last layer of a transformer, learnable prompt vectors before it and a head on it, with torch."""

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
from forebay.train.network import GAP_MIN, STEPS_UP, Rows
from forebay.train.transformer import EPSILON, FAR_BELOW

Matrix = npt.NDArray[np.float32]
States = Sequence[npt.NDArray[np.float16]]


@dataclass(frozen=True, slots=True)
class Settings:
    """How it is fitted. `examples_max` bounds the time: each example costs a pass of the lower layers."""

    prompt_count: int = 12
    hidden_count: int = 512
    epoch_count_max: int = 8
    patience_count: int = 2
    batch_count: int = 32
    learning_rate: float = 2e-4
    head_learning_rate: float = 1e-3
    dropout: float = 0.1
    examples_max: int = 8_000


class Layer(nn.Module):  # type: ignore[misc]
    """One layer of BERT; its parameters are named as in the published weights. `dropout` is of what it adds."""

    def __init__(self, size: int, wide: int, head_count: int, dropout: float = 0.0) -> None:
        super().__init__()
        shapes = {
            "attention.self.query": (size, size),
            "attention.self.key": (size, size),
            "attention.self.value": (size, size),
            "attention.output.dense": (size, size),
            "intermediate.dense": (size, wide),
            "output.dense": (wide, size),
        }
        self.dense = nn.ModuleDict({_plain(name): nn.Linear(*shape) for name, shape in shapes.items()})
        norms = ("attention.output.LayerNorm", "output.LayerNorm")
        self.norm = nn.ModuleDict({_plain(name): nn.LayerNorm(size, eps=EPSILON) for name in norms})
        self.head_count = head_count
        self.drop = nn.Dropout(dropout)

    def forward(self, states: Any, mask: Any) -> Any:
        """The states [n, tokens, size] after the layer; `mask` is 1 where a token is."""
        count, tokens, size = states.shape
        query, key, value = (
            self.dense[f"attention-self-{name}"](states).view(count, tokens, self.head_count, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        bias = ((1 - mask) * FAR_BELOW)[:, None, None, :]
        shares = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(size // self.head_count) + bias, dim=-1)
        seen = (self.drop(shares) @ value).transpose(1, 2).reshape(count, tokens, size)
        seen = self.drop(self.dense["attention-output-dense"](seen))
        seen = self.norm["attention-output-LayerNorm"](seen + states)
        wide = functional.gelu(self.dense["intermediate-dense"](seen))
        return self.norm["output-LayerNorm"](self.drop(self.dense["output-dense"](wide)) + seen)

    def load(self, weights: dict[str, Matrix], prefix: str) -> None:
        """Takes the published weights of the layer `prefix`."""
        for name, part in (*self.dense.items(), *self.norm.items()):
            inside = f"{prefix}.{name.replace('-', '.')}"
            part.weight.data = torch.tensor(weights[f"{inside}.weight"])
            part.bias.data = torch.tensor(weights[f"{inside}.bias"])

    def weights(self, prefix: str) -> dict[str, Matrix]:
        """The weights under their published names."""
        found = {}
        for name, part in (*self.dense.items(), *self.norm.items()):
            inside = f"{prefix}.{name.replace('-', '.')}"
            found[f"{inside}.weight"] = part.weight.detach().numpy().copy()
            found[f"{inside}.bias"] = part.bias.detach().numpy().copy()
        return found


class Tuned(nn.Module):  # type: ignore[misc]
    """Prompt vectors before the text's states, one layer over both, and a head on the means of both."""

    def __init__(self, layer: Layer, size: int, plain_count: int, logs: Matrix, settings: Settings) -> None:
        super().__init__()
        self.layer = layer
        self.prompts = nn.Parameter(torch.randn(settings.prompt_count, size) * 0.3)
        self.hidden = nn.Linear(2 * size + plain_count, settings.hidden_count)
        self.last = nn.Linear(settings.hidden_count, len(QUANTILE_LEVELS))
        self.dropout = nn.Dropout(settings.dropout)
        start = np.quantile(logs.astype(np.float64), QUANTILE_LEVELS)
        gaps = np.log(np.expm1(np.maximum(np.diff(start), GAP_MIN)))
        self.last.weight.data *= 0.1
        self.last.bias.data = torch.tensor(np.concatenate((start[:1], gaps)), dtype=torch.float32)

    def forward(self, states: Any, mask: Any, plain: Any) -> Any:
        """ln(1 + tokens) at each level, which never decrease."""
        count = len(self.prompts)
        before = self.prompts.expand(len(states), -1, -1)
        together = torch.cat((mask.new_ones(len(mask), count), mask), dim=1)
        seen = self.layer(torch.cat((before, states), dim=1), together)
        text = (seen[:, count:] * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        pooled = torch.cat((text, seen[:, :count].mean(dim=1), plain), dim=1)
        raw = self.last(self.dropout(torch.relu(self.hidden(self.dropout(pooled)))))
        rising = torch.cat((raw[:, :1], functional.softplus(raw[:, 1:])), dim=1)
        return rising @ torch.tensor(STEPS_UP)


def fit(
    layer: Layer,
    states: States,
    rows: Rows,
    validates: npt.NDArray[np.bool_],
    settings: Settings,
    seed: int,
    on_epoch: Callable[[float], None],
) -> Tuned:
    """Fits on the rows that do not validate; keeps the epoch that does best on those that do.

    `states` are those before the layer, a row a prompt; `rows` have the plain features. Calls `on_epoch` with the
    validation loss `settings.epoch_count_max` times, also where it stops early.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    learns = np.flatnonzero(~validates)
    model = Tuned(layer, states[0].shape[1], rows.features.shape[1], rows.logs[learns], settings)
    slow = {"params": list(model.layer.parameters()), "lr": settings.learning_rate}
    others = [model.prompts, *model.hidden.parameters(), *model.last.parameters()]
    optimizer = torch.optim.AdamW([slow, {"params": others, "lr": settings.head_learning_rate}])
    best, best_loss, waited_count, loss = model.state_dict(), math.inf, 0, math.inf
    for _ in range(settings.epoch_count_max):
        if waited_count < settings.patience_count:
            _learn(model, optimizer, states, rows, _batches(rng, learns, states, settings.batch_count))
            loss = _validate(model, states, rows, np.flatnonzero(validates))
            waited_count = 0 if loss < best_loss else waited_count + 1
            if not waited_count:
                best, best_loss = {name: value.clone() for name, value in model.state_dict().items()}, loss
        on_epoch(loss)
    model.load_state_dict(best)
    model.eval()
    return model


def predict(model: Tuned, states: States, features: Matrix) -> Matrix:
    """ln(1 + tokens) at each level of each row."""
    found = np.empty((len(states), len(QUANTILE_LEVELS)), dtype=np.float32)
    order = np.argsort([len(one) for one in states], kind="stable")
    with torch.no_grad():
        for start in range(0, len(order), 64):
            chosen = order[start : start + 64]
            found[chosen] = model(*_padded(states, chosen), torch.tensor(features[chosen])).numpy()
    return found


def _learn(model: Tuned, optimizer: Any, states: States, rows: Rows, batches: Iterator[npt.NDArray[np.int64]]) -> None:
    model.train()
    for chosen in batches:
        found = model(*_padded(states, chosen), torch.tensor(rows.features[chosen]))
        loss = _pinball(found, torch.tensor(rows.logs[chosen]), torch.tensor(rows.is_cut[chosen]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def _validate(model: Tuned, states: States, rows: Rows, chosen: npt.NDArray[np.int64]) -> float:
    model.eval()
    found = predict(model, [states[row] for row in chosen], rows.features[chosen])
    return float(_pinball(torch.tensor(found), torch.tensor(rows.logs[chosen]), torch.tensor(rows.is_cut[chosen])))


def _pinball(found: Any, logs: Any, is_cut: Any) -> Any:
    """Mean loss; a level above a cut loses nothing."""
    levels = torch.tensor(QUANTILE_LEVELS)
    under = logs[:, None] - found
    over = torch.where(is_cut[:, None], torch.zeros(()), (levels - 1) * under)
    return torch.maximum(levels * under, over).mean()


def _batches(
    rng: np.random.Generator, learns: npt.NDArray[np.int64], states: States, size: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of like length share a batch, in an order that is drawn anew each time."""
    order = rng.permutation(learns)
    found = []
    for start in range(0, len(order), size * 32):
        chunk = sorted(order[start : start + size * 32], key=lambda row: len(states[row]))
        found += [np.array(chunk[begin : begin + size]) for begin in range(0, len(chunk), size)]
    for place in rng.permutation(len(found)):
        yield found[place]


def _padded(states: States, chosen: Sequence[int] | npt.NDArray[np.int64]) -> tuple[Any, Any]:
    longest = max(len(states[row]) for row in chosen)
    found = np.zeros((len(chosen), longest, states[chosen[0]].shape[1]), dtype=np.float32)
    mask = np.zeros((len(chosen), longest), dtype=np.float32)
    for place, row in enumerate(chosen):
        found[place, : len(states[row])] = states[row]
        mask[place, : len(states[row])] = 1.0
    return torch.tensor(found), torch.tensor(mask)


def _plain(name: str) -> str:
    """A name that torch takes for a part."""
    return name.replace(".", "-")
