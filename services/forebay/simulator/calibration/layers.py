"""A profile from measured layers: kernel times of one model on one GPU, composed into the integers of a profile.

The tables are those of a layer profiler such as https://github.com/casys-kaist/LLMServingSim (MIT): one CSV each for
dense layers by tokens, per-sequence layers by sequences, attention by (prefill chunk, its cached tokens, decodes,
cached tokens of each), and for mixtures of experts by (tokens, activated experts); microseconds, one layer, one call.
An iteration is embedding + layers * (2 layernorm + dense layers + attention or experts) + final norm + head + sampler.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from forebay.core.errors import ConfigError
from forebay.core.instance import EngineProfile
from forebay.core.instance.profile import PAIR_SHIFT
from forebay.core.units import PS_PER_US
from forebay.simulator.calibration.rows import number, read_rows
from forebay.simulator.calibration.runs import Floats

ONCE = ("embedding", "final_layernorm")
TWICE = ("layernorm",)
HEAD = ("lm_head", "sampler")


@dataclass(frozen=True, slots=True)
class Layers:
    """The measured layers of one engine and what else its profile needs.

    `experts` and `experts_each` are a mixture's experts in one layer and how many serve a token (0: a dense model).
    `replicas` engines hold the experts together and run in step, each with its own share of the requests: they become
    one instance, whose iteration lasts as long as that of a replica with half of the decodes and all of a prompt. They
    exchange the hidden states (`hidden` values of 2 bytes) twice a layer over a link of `link_s` latency and
    `link_bytes_per_s`. `kernels` are started one after another in one layer; the tables do not tell the time between
    two of them.
    """

    name: str
    layer_count: int
    kv_tokens: int
    max_seqs: int
    max_batch_tokens: int
    experts: int = 0
    experts_each: int = 0
    replicas: int = 1
    hidden: int = 0
    link_s: float = 0.0
    link_bytes_per_s: float = math.inf
    kernels: int = 1
    block_size: int = 16

    @property
    def kernel_count(self) -> int:
        """Of an iteration."""
        return self.layer_count * self.kernels


def profile_from_layers(prefix: str, layers: Layers) -> EngineProfile:
    """Composes `PREFIX_dense.csv`, `_per_sequence`, `_attention` and, for a mixture, `_moe` (each maybe .gz).

    Attention becomes affine by least squares on relative errors: decodes in B and K, prefills in tokens and pairs, and
    what iterations with both take beyond the two. Raises ConfigError naming the file that is not there or not right.
    """
    dense = _by_layer(*_read(prefix, "dense"), "tokens")
    heads = _by_layer(*_read(prefix, "per_sequence"), "sequences")
    attention = _attention(_read(prefix, "attention")[0])
    tokens = np.arange(layers.max_batch_tokens * layers.replicas + 1, dtype=float)
    each = tokens / layers.replicas
    steps = _steps(each, dense, heads, layers) + layers.layer_count * attention["decode_once"]
    if layers.experts:
        steps += layers.layer_count * _experts(tokens, _read(prefix, "moe")[0], layers)
    if layers.replicas > 1:
        steps += layers.layer_count * 2 * 1e6 * layers.link_s + _sent(layers) * each
    lone = _lone_prefill(dense, layers)
    steps[0] = 0.0
    table = np.maximum.accumulate(np.rint(steps * PS_PER_US)).astype(np.int64)
    share = PS_PER_US * layers.layer_count / layers.replicas
    whole = PS_PER_US * layers.layer_count
    return EngineProfile(
        name=layers.name,
        status="kernel-level",
        iteration_ps=tuple(table.tolist()),
        decode_ps=round(share * attention["decode"]),
        context_token_ps=round(share * attention["context"]),
        prefill_ps=round(whole * attention["prefill_once"]),
        half_pair_fixed=round(whole * attention["pair"] * (1 << PAIR_SHIFT) / 2),
        prefill_token_fixed=round(PS_PER_US * (layers.layer_count * attention["prefill"] + lone) * (1 << PAIR_SHIFT)),
        kv_tokens=layers.kv_tokens * layers.replicas,
        max_seqs=layers.max_seqs * layers.replicas,
        block_size=layers.block_size,
        gpu_count=layers.replicas,
        mixed_context_token_ps=round(share * attention["mixed_context"]),
        mixed_pair_ps=round(share * attention["mixed_pair"]),
    )


def _steps(tokens: Floats, dense: Mapping[str, Floats], heads: Mapping[str, Floats], layers: Layers) -> Floats:
    """Microseconds of everything that depends on one replica's tokens alone, attention and experts apart."""
    rows = np.minimum(tokens, layers.max_seqs)
    total = np.zeros_like(tokens)
    for name, table in dense.items():
        calls = 1 if name in ONCE else layers.layer_count * (2 if name in TWICE else 1)
        total += calls * np.interp(tokens, *table)
    for name in HEAD:
        total += np.interp(rows, *heads[name])
    return total


def _lone_prefill(dense: Mapping[str, Floats], layers: Layers) -> float:
    """Microseconds a prompt token: a prompt is computed, and sent, by one replica, not by all in equal parts."""
    if layers.replicas == 1:
        return 0.0
    ends = np.array([512.0, float(layers.max_batch_tokens)])
    whole = np.diff(_steps(ends, dense, {name: np.zeros((2, 1)) for name in HEAD}, layers))
    return float(whole[0] / np.diff(ends)[0] + _sent(layers)) * (1 - 1 / layers.replicas)


def _sent(layers: Layers) -> float:
    """Microseconds on the link a token of one replica: its hidden state goes out in each layer and comes back."""
    return 1e6 * layers.layer_count * 2 * 2 * layers.hidden / layers.link_bytes_per_s


def _experts(tokens: Floats, rows: Sequence[Mapping[str, float]], layers: Layers) -> Floats:
    """Microseconds of one layer's experts on one of the replicas that share them, for the tokens of all replicas.

    A router that prefers no expert activates experts * (1 - (1 - each / experts) ** tokens) of them.
    """
    active = layers.experts / layers.replicas * (1 - (1 - layers.experts_each / layers.experts) ** tokens)
    counts = sorted({row["tokens"] for row in rows})
    at_counts = np.zeros((len(counts), len(tokens)))
    for index, count in enumerate(counts):
        known = sorted((row["activated_experts"], row["time_us"]) for row in rows if row["tokens"] == count)
        at_counts[index] = _line(active, *np.array(known).T)
    local = np.maximum(tokens / layers.replicas, 1.0)
    return np.array([np.interp(local[t], counts, at_counts[:, t]) for t in range(len(tokens))])


def _line(at: Floats, x: Floats, y: Floats) -> Floats:
    """Straight between the points, and on beyond the last two."""
    inside: Floats = np.interp(at, x, y)
    if len(x) > 1:
        inside = np.where(at > x[-1], y[-1] + (at - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2]), inside)
    return inside


def _attention(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Microseconds of one layer's attention, affine in what an iteration computes."""
    chunk, before, decodes, each = (
        np.array([row[name] for row in rows]) for name in ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
    )
    time = np.array([row["time_us"] for row in rows])
    context, pairs, one = decodes * each, chunk * (before + (chunk + 1) / 2), np.ones_like(time)
    alone = (chunk == 0) & (decodes > 0)
    decode = _fit(np.stack([one, decodes, context])[:, alone], time[alone])
    lone = (decodes == 0) & (chunk > 0)
    prefill = _fit(np.stack([one, chunk, pairs])[:, lone], time[lone])
    both = (chunk > 0) & (decodes > 0)
    apart = np.stack([one, decodes, context, chunk, pairs])[:, both]
    rest = time[both] - decode @ apart[:3] - prefill @ apart[[0, 3, 4]]
    shared = _fit(np.stack([context, decodes * chunk])[:, both], rest, time[both])
    names = ("decode_once", "decode", "context", "prefill_once", "prefill", "pair", "mixed_context", "mixed_pair")
    return dict(zip(names, map(float, (*decode, *prefill, *shared)), strict=True))


def _fit(columns: Floats, target: Floats, scale: Floats | None = None) -> Floats:
    """Non-negative least squares on relative errors, those beyond the median's double counting less."""
    weight = 1 / (target if scale is None else scale)
    unit = np.maximum(np.abs(columns * weight).max(axis=1), 1e-30)
    trust = np.ones_like(target)
    answer = np.zeros(len(columns))
    for _ in range(6):
        answer = nnls((columns * weight * trust).T / unit, target * weight * trust)[0] / unit
        residual = np.abs(answer @ columns - target) * weight
        trust = (1 + (residual / max(2 * float(np.median(residual)), 1e-9)) ** 2) ** -0.25
    return answer


def _by_layer(rows: Sequence[Mapping[str, float]], names: Sequence[str], key: str) -> dict[str, Floats]:
    """Per layer the points (key, microseconds) in order."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row, name in zip(rows, names, strict=True):
        points.setdefault(name, []).append((row[key], row["time_us"]))
    return {name: np.array(sorted(found)).T for name, found in points.items()}


def _read(prefix: str, kind: str) -> tuple[list[dict[str, float]], list[str]]:
    """The numbers of each row of one table, and the layer that it names."""
    found = [path for path in (Path(f"{prefix}_{kind}.csv.gz"), Path(f"{prefix}_{kind}.csv")) if path.exists()]
    if not found:
        raise ConfigError(f"{prefix}_{kind}.csv: no such file; a layer profile has dense, per_sequence and attention")
    rows: list[dict[str, float]] = []
    names: list[str] = []
    for line, row in read_rows(found[0]):
        names.append(str(row.get("layer", "")))
        where = f"{found[0]}:{line}"
        rows.append({key: number(where, key, value) for key, value in row.items() if key != "layer"})
    return rows, names
