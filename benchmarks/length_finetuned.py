"""How far a small encoder gets on Alpaca when all its layers learn, with and without another model's lengths before.

MiniLM-L6 (22 million weights) reads the prompt and four heads give the quantiles of the longest of Vicuna's four
answers. The second row has first learnt from davinci-003's lengths on 40,000 Alpaca prompts, none of them of the test
split: rows of `length_accuracy` have not seen those, so it stands apart. The bound goes through the predictor's engine
as there. It is thrown away; about an hour on one core, most of it for the other model's lengths.

Needs what `forebay train length --family preserve` needs; says so where it is missing.
Run: PYTHONPATH=services:clients/python python -m benchmarks.length_finetuned [--quick] [--json FILE]
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import click
import numpy as np

from benchmarks import common
from benchmarks.length_accuracy import bound_row, engine_with, follow, score
from forebay.core.errors import ForebayError
from forebay.core.prediction import QUANTILE_LEVELS
from forebay.core.values import InferenceRequest
from forebay.predictor.encoders.tokens import WordPieces
from forebay.predictor.policy.length import OnnxQuantile
from forebay.train.data import Examples

SEED = 1
BATCH_COUNT = 32
EPOCHS = 4
EARLIER_EPOCHS = 1
LEARNING_RATE = 6e-5
EARLIER_LEARNING_RATE = 1e-4
HEAD_FACTOR = 20
"""The heads start from nothing, so they learn so much faster than the layers below."""
SCALE = 5.0
"""Targets are square roots of tokens over this, about one in size."""
MIDDLE = 2.5
Ids: TypeAlias = list[list[int]]
"""The tokens of each prompt."""
LEVELS = np.array(QUANTILE_LEVELS, dtype=np.float32)


class Remembered:
    """Quantiles that were computed beforehand, by the ids of queries."""

    def __init__(self, queries: Sequence[InferenceRequest], tokens: np.ndarray) -> None:
        self._rows = dict(zip((query.request_id for query in queries), tokens, strict=True))

    def infer(self, queries: Sequence[InferenceRequest]) -> np.ndarray:
        return np.array([self._rows[query.request_id] for query in queries]).reshape(-1, len(LEVELS))


def network() -> Any:
    """The encoder with its published weights, and heads that say nothing yet."""
    import torch
    from torch import nn

    from forebay.predictor.encoders.files import WEIGHTS, read
    from forebay.train.preserve import HEAD_COUNT, INSTALL_WEIGHTS
    from forebay.train.prompt_tuning import Layer
    from forebay.train.transformer import layer_count, read_weights

    weights = read_weights(read(WEIGHTS, INSTALL_WEIGHTS)[1])

    def table(name: str) -> Any:
        return torch.tensor(weights[f"embeddings.{name}"].copy())

    class Network(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = table("word_embeddings.weight"), table("position_embeddings.weight")
            self.kind = table("token_type_embeddings.weight")[0]
            size = self.words.shape[1]
            self.norm = nn.LayerNorm(size, eps=1e-12)
            self.norm.load_state_dict({"weight": table("LayerNorm.weight"), "bias": table("LayerNorm.bias")})
            self.layers = nn.ModuleList(Layer(size, 4 * size, HEAD_COUNT) for _ in range(layer_count(weights)))
            for number, layer in enumerate(self.layers):
                layer.load(weights, f"encoder.layer.{number}")
            self.drop, self.heads = nn.Dropout(0.1), nn.Linear(2 * size, len(LEVELS))
            nn.init.zeros_(self.heads.weight)
            nn.init.zeros_(self.heads.bias)

        def forward(self, ids: Any, mask: Any) -> Any:
            states = self.drop(self.norm(self.words[ids] + self.places[: ids.shape[1]] + self.kind))
            for layer in self.layers:
                states = layer(states, mask)
            states = states.float()
            mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            raw = self.heads(self.drop(torch.cat((mean, states[:, 0]), 1))).float()
            middle, gaps = MIDDLE + raw[:, 1], nn.functional.softplus(raw[:, [0, 2, 3]] - 0.5)
            upper = middle + gaps[:, 1]
            return torch.stack((middle - gaps[:, 0], middle, upper, upper + gaps[:, 2]), 1)

    torch.manual_seed(SEED)
    return Network()


def batches(ids: Ids, generator: np.random.Generator | None) -> Iterator[np.ndarray]:
    """Places of prompts of about the same length, in an order drawn by chance while learning."""
    sizes = np.array([len(row) for row in ids], dtype=np.float64)
    noise = 0.0 if generator is None else 6 * generator.random(len(ids))
    order = np.argsort(sizes + noise, kind="stable")
    parts = [order[start : start + BATCH_COUNT] for start in range(0, len(order), BATCH_COUNT)]
    if generator is not None:
        generator.shuffle(parts)
    yield from parts


def forward(model: Any, ids: Ids, chosen: np.ndarray) -> Any:
    import torch

    width = max(len(ids[place]) for place in chosen)
    rows = np.zeros((len(chosen), width), dtype=np.int64)
    for row, place in zip(rows, chosen, strict=True):
        row[: len(ids[place])] = ids[place]
    with torch.autocast("cpu", torch.bfloat16):
        return model(torch.from_numpy(rows), torch.from_numpy((rows > 0).astype(np.float32)))


def learn(model: Any, ids: Ids, tokens: np.ndarray, epochs: int, rate: float) -> None:
    """Pinball loss of the square roots; the rate rises for a tenth of the steps and then falls."""
    import torch

    target = torch.from_numpy((np.sqrt(tokens) / SCALE).astype(np.float32))
    head = set(map(id, model.heads.parameters()))
    below = [one for one in model.parameters() if id(one) not in head]
    groups = [{"params": below}, {"params": list(model.heads.parameters())}]
    optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=0.01)
    generator = np.random.default_rng(SEED)
    total = epochs * (len(ids) // BATCH_COUNT + 1)
    step = 0
    model.train()
    for _ in range(epochs):
        for chosen in batches(ids, generator):
            step += 1
            part = min(1.0, 10 * step / total) * max(0.02, 1 - step / total)
            for group, factor in zip(optimizer.param_groups, (1, HEAD_FACTOR), strict=True):
                group["lr"] = rate * factor * part
            under = target[chosen][:, None] - forward(model, ids, chosen)
            loss = torch.maximum(torch.from_numpy(LEVELS) * under, torch.from_numpy(LEVELS - 1) * under).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


def predict(model: Any, ids: Ids) -> np.ndarray:
    """Tokens at the levels."""
    import torch

    model.eval()
    found = np.zeros((len(ids), len(LEVELS)))
    with torch.no_grad():
        for chosen in batches(ids, None):
            found[chosen] = (forward(model, ids, chosen).numpy().clip(0.0) * SCALE) ** 2
    return np.sort(found, axis=1)


def measure(report: common.Report, quick: bool) -> None:
    import torch

    from benchmarks.length_data import alpaca, other_model

    torch.set_num_threads(1)
    examples, _, tested = alpaca()
    learnt, asked, earlier = examples.where(~tested), examples.where(tested), other_model()
    if quick:
        learnt, earlier = (_first(some, 1_000) for some in (learnt, earlier))
    pieces = WordPieces()
    ids, asked_ids, earlier_ids = (_ids(pieces, some) for some in (learnt, asked, earlier))
    points: list[list[common.Cell]] = []
    bounds: list[list[common.Cell]] = []
    for name, knows in (("all layers learnt", False), ("the same after davinci-003's lengths", True)):
        model = network()
        if knows:
            learn(model, earlier_ids, earlier.tokens, EARLIER_EPOCHS, EARLIER_LEARNING_RATE)
        learn(model, ids, learnt.tokens, 1 if quick else EPOCHS, LEARNING_RATE)
        found = predict(model, asked_ids)
        points.append([name, *score(found[:, 1], asked.tokens)])
        policy = OnnxQuantile(Remembered(asked.queries, found))
        bounds.append([name, *bound_row(follow(engine_with(policy), asked), asked.tokens)])
        key = "transferred" if knows else "alone"
        report.figures[f"{key}_mae_tokens"], report.figures[f"{key}_tau"] = float(points[-1][1]), float(points[-1][4])
        report.figures[f"{key}_coverage"], report.figures[f"{key}_reserve_ratio"] = map(float, bounds[-1][1:3])
    report.table(f"Alpaca, {len(asked)} asked", ("MiniLM-L6", "MAE tokens", "Acc-50", "Acc-100", "tau"), points)
    thirds = [f"{kind} {part}" for kind in ("predicted", "true") for part in ("short", "middle", "long")]
    report.table("90 % bound", ("MiniLM-L6", "covered", "reserve ratio", *thirds, "by the model"), bounds)


def _first(some: Examples, count: int) -> Examples:
    return some.where(np.arange(len(some)) < count)


def _ids(pieces: WordPieces, some: Examples) -> Ids:
    return [pieces.ids([query.prompt_head])[0] for query in some.queries]


@click.command()
@common.options
def main(quick: bool, json_path: str | None) -> None:
    """Scores an encoder that learns as a whole."""
    report = common.Report("length_finetuned", quick)
    try:
        network()
        measure(report, quick)
    except (ImportError, ForebayError, OSError) as error:
        print(f"length_finetuned: nothing is measured: {error}; see `forebay train length --family preserve`")
        return
    report.close(json_path)


if __name__ == "__main__":
    main()
