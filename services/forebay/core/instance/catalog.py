"""Constants of known GPUs and shapes of known models, and the profile that follows from a pair of them.

GPU constants are least-squares fits on public kernel measurements: linear layers of A100 and H100 from
https://github.com/microsoft/vidur; GEMM, attention and all-reduce tables of A100, H100, H200 and L40S from
https://github.com/ai-dynamo/aiconfigurator; the RTX cards from the layer profiles of
https://github.com/casys-kaist/LLMServingSim. L4 and A10G are data sheets times the efficiency of a relative
and are marked uncalibrated. A40 is its data sheet with constants fitted to one of PreServe's two raw runs of
vLLM 0.6 with Llama-2-7B on a card of 48 GB that nobody names, and judged by the other
(benchmarks/preserve_calibration.py). Model shapes are those of the models' public configuration files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor, pow, sqrt
from typing import TypeVar

from forebay.core.instance.profile import PAIR_SHIFT, EngineProfile
from forebay.core.units import PS_PER_S

T = TypeVar("T")

WEIGHT_BYTES = 2
HEAD_SIZE = 128
MEMORY_SHARE = 0.90
ACTIVATION_BYTES = 1.6e9
COMMUNICATION_BYTES = 0.6e9


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Cost of one all-reduce at one tensor-parallel degree: latency and bus bandwidth."""

    latency_s: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator: data sheet, and the efficiencies and constants fitted to it for all models alike.

    `corner` is the sharpness of the change from memory-bound to compute-bound; `layer_s` and
    `activation_passes` cover a layer's small kernels; `decode_*` and `prefill_*` its attention; `tile_tokens`
    are the extra tokens a query row pays for masked tiles; `step_s` is the engine's host time in an
    iteration.
    """

    status: str
    flops: float
    bytes_per_s: float
    memory_gib: float
    bandwidth_share: float
    flops_share: float
    corner: float
    layer_s: float
    activation_passes: float
    decode_s: float
    decode_seq_s: float
    kv_share: float
    prefill_s: float
    attention_share: float
    tile_tokens: float
    step_s: float = 0.15e-3
    all_reduce: Mapping[int, AllReduce] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A dense decoder: layers, hidden and MLP width, query and KV heads (size 128), vocabulary."""

    layers: int
    hidden: int
    mlp: int
    query_heads: int
    kv_heads: int
    vocabulary: int

    @property
    def layer_params(self) -> int:
        """Linear parameters of one layer over all ranks."""
        attention = self.hidden * (self.query_heads + 2 * self.kv_heads) * HEAD_SIZE
        return attention + self.query_heads * HEAD_SIZE * self.hidden + 3 * self.hidden * self.mlp

    @property
    def params(self) -> int:
        """All parameters, embedding and head counted apart."""
        return self.layers * self.layer_params + 2 * self.vocabulary * self.hidden


GPUS: Mapping[str, Gpu] = {
    "A100-80G": Gpu(
        status="kernel-level",
        flops=312e12,
        bytes_per_s=2.039e12,
        memory_gib=80,
        bandwidth_share=0.7759795540643223,
        flops_share=0.7139903658283532,
        corner=1.9765623892653785,
        layer_s=3.793091935190826e-05,
        activation_passes=14.420113897997945,
        decode_s=1.8640785672105456e-05,
        decode_seq_s=1.615835168855249e-08,
        kv_share=0.732732517552238,
        prefill_s=1.1574654242278738e-05,
        attention_share=0.559817828753954,
        tile_tokens=245.9669029362713,
        all_reduce={
            2: AllReduce(5.44315657240617e-06, 154040053072.44766),
            4: AllReduce(6.190804108898136e-06, 151341104296.44305),
            8: AllReduce(8.500497583251037e-06, 156758765176.42938),
        },
    ),
    "H100": Gpu(
        status="checked",
        flops=989.5e12,
        bytes_per_s=3.35e12,
        memory_gib=80,
        bandwidth_share=0.8710029072724467,
        flops_share=0.6935868624870531,
        corner=1.9166587103063235,
        layer_s=3.2391825821126227e-05,
        activation_passes=14.955080841573082,
        decode_s=1.178587552062318e-05,
        decode_seq_s=3.481804112105952e-08,
        kv_share=0.8837316110589363,
        prefill_s=1.3151833829446645e-05,
        attention_share=0.6786043714594442,
        tile_tokens=529.0681543560646,
        all_reduce={
            2: AllReduce(4.570370732773466e-06, 211801362624.80466),
            4: AllReduce(5.1559426850191165e-06, 253709752824.6169),
            8: AllReduce(6.068191915536674e-06, 316212041552.4785),
        },
    ),
    "H200": Gpu(
        status="kernel-level",
        flops=989.5e12,
        bytes_per_s=4.8e12,
        memory_gib=141,
        bandwidth_share=0.8240795006659275,
        flops_share=0.8340234083224679,
        corner=2.6427784056114225,
        layer_s=1.5602107994679694e-05,
        activation_passes=1.2548805241914769,
        decode_s=1.196293065837583e-05,
        decode_seq_s=4.470146886109378e-08,
        kv_share=0.8533931033814515,
        prefill_s=1.2978324418837623e-05,
        attention_share=0.6707564096961305,
        tile_tokens=503.96711178806544,
        all_reduce={
            2: AllReduce(4.762403667759584e-06, 223765997570.59793),
            4: AllReduce(5.1861049548988165e-06, 266965602845.42264),
            8: AllReduce(6.073947652413371e-06, 336816729957.477),
        },
    ),
    "L40S": Gpu(
        status="kernel-level",
        flops=362e12,
        bytes_per_s=0.864e12,
        memory_gib=48,
        bandwidth_share=0.7884348938455342,
        flops_share=0.6800871343675798,
        corner=2.103260170176122,
        layer_s=0.0,
        activation_passes=3.810429288081037,
        decode_s=9.703460904309122e-06,
        decode_seq_s=0.0,
        kv_share=0.7771825317350726,
        prefill_s=6.744904658662246e-06,
        attention_share=0.5217891281406134,
        tile_tokens=206.51832188159415,
        all_reduce={
            2: AllReduce(6.107464843392704e-06, 18110240443.232315),
            4: AllReduce(1.4599093252805003e-05, 3664451694.0062013),
            8: AllReduce(2.6318776983353434e-05, 1943607905.2732368),
        },
    ),
    "RTX4090": Gpu(
        status="checked",
        flops=165.2e12,
        bytes_per_s=1.008e12,
        memory_gib=24,
        bandwidth_share=0.875076168431549,
        flops_share=1.0,
        corner=2.228211227457616,
        layer_s=0.0,
        activation_passes=11.047952521273773,
        decode_s=1.2942834303177167e-05,
        decode_seq_s=1.102354508166025e-07,
        kv_share=0.913446238937428,
        prefill_s=1.1392766201475917e-05,
        attention_share=0.6730444637621017,
        tile_tokens=54.02892276332996,
        step_s=0.5e-3,
    ),
    "RTXPRO6000": Gpu(
        status="checked",
        flops=503.8e12,
        bytes_per_s=1.792e12,
        memory_gib=96,
        bandwidth_share=0.8361161424124006,
        flops_share=0.946373185113668,
        corner=2.591835558240957,
        layer_s=2.4773463402612075e-05,
        activation_passes=60.0,
        decode_s=1.2937229617291508e-05,
        decode_seq_s=6.696360011075977e-08,
        kv_share=0.8139106661775349,
        prefill_s=1.5760795406047726e-05,
        attention_share=0.4090443614789632,
        tile_tokens=0.0,
        step_s=3.25e-3,
    ),
    "A40": Gpu(
        status="checked",
        flops=149.7e12,
        bytes_per_s=0.696e12,
        memory_gib=48,
        bandwidth_share=0.90,
        flops_share=0.61,
        corner=2.5,
        layer_s=0.0,
        activation_passes=4.0,
        decode_s=1e-05,
        decode_seq_s=1.56e-05,
        kv_share=0.886,
        prefill_s=1e-05,
        attention_share=0.50,
        tile_tokens=200.0,
        step_s=5.0e-3,
    ),
    "L4": Gpu(
        status="uncalibrated",
        flops=121e12,
        bytes_per_s=0.300e12,
        memory_gib=22.5,
        bandwidth_share=0.79,
        flops_share=0.50,
        corner=2.1,
        layer_s=5e-06,
        activation_passes=4.0,
        decode_s=1e-05,
        decode_seq_s=1e-07,
        kv_share=0.80,
        prefill_s=7e-06,
        attention_share=0.45,
        tile_tokens=200.0,
        all_reduce={2: AllReduce(1e-05, 18e9)},
    ),
    "A10G": Gpu(
        status="uncalibrated",
        flops=70e12,
        bytes_per_s=0.600e12,
        memory_gib=22.5,
        bandwidth_share=0.77,
        flops_share=0.75,
        corner=2.05,
        layer_s=2e-05,
        activation_passes=13.0,
        decode_s=1.5e-05,
        decode_seq_s=1e-07,
        kv_share=0.75,
        prefill_s=1.2e-05,
        attention_share=0.50,
        tile_tokens=240.0,
        all_reduce={2: AllReduce(1e-05, 18e9)},
    ),
}

MODELS: Mapping[str, ModelShape] = {
    "Llama-2-7B": ModelShape(32, 4096, 11008, 32, 32, 32000),
    "Llama-2-13B": ModelShape(40, 5120, 13824, 40, 40, 32000),
    "Llama-2-70B": ModelShape(80, 8192, 28672, 64, 8, 32000),
    "Llama-3-8B": ModelShape(32, 4096, 14336, 32, 8, 128256),
    "Llama-3-70B": ModelShape(80, 8192, 28672, 64, 8, 128256),
    "Qwen2.5-7B": ModelShape(28, 3584, 18944, 28, 4, 152064),
    "Qwen2.5-14B": ModelShape(48, 5120, 13824, 40, 8, 152064),
    "Qwen2.5-32B": ModelShape(64, 5120, 27648, 40, 8, 152064),
    "Qwen2.5-72B": ModelShape(80, 8192, 29568, 64, 8, 152064),
}


def parse_profile_name(name: str) -> tuple[str, str, int]:
    """Split `GPU/MODEL[/tpN]` into its parts; raises ValueError naming what is known."""
    parts = name.split("/")
    tp_text = parts[2] if len(parts) == 3 else "tp1"
    if len(parts) not in (2, 3) or not tp_text.startswith("tp") or not tp_text[2:].isdigit():
        raise ValueError(f"profile {name!r} is not GPU/MODEL or GPU/MODEL/tpN, for example A100-80G/Llama-3-8B/tp1")
    return parts[0], parts[1], int(tp_text[2:])


def compute_profile(
    gpu_name: str,
    model_name: str,
    tp: int = 1,
    *,
    max_seqs: int = 256,
    max_batch_tokens: int = 2048,
    block_size: int = 16,
    kv_tokens: int | None = None,
    step_s: float | None = None,
) -> EngineProfile:
    """The profile of a known GPU and model at tensor parallelism `tp`, bf16.

    `kv_tokens` overrides the capacity rule with the engine's own figure (do so where there is one), `step_s`
    the host time of an iteration. Raises ValueError for unknown names, for a `tp` that does not divide the
    heads or has no all-reduce figure on this GPU, and where the weights leave no room for a KV block.
    """
    gpu = _known(GPUS, gpu_name, "GPU")
    shape = _known(MODELS, model_name, "model")
    rank = _Rank(gpu, shape, tp, gpu.step_s if step_s is None else step_s)
    _check_parallelism(gpu, shape, tp, gpu_name, model_name)
    capacity = rank.kv_tokens() if kv_tokens is None else kv_tokens
    return EngineProfile(
        name=f"{gpu_name}/{model_name}/tp{tp}",
        status=gpu.status,
        iteration_ps=(0, *(_ps(rank.token_s(t, max_seqs)) for t in range(1, max_batch_tokens + 1))),
        decode_ps=_ps(shape.layers * gpu.decode_seq_s),
        context_token_ps=_ps(shape.layers * rank.kv_bytes / (gpu.bytes_per_s * gpu.kv_share)),
        prefill_ps=_ps(shape.layers * gpu.prefill_s),
        half_pair_fixed=_fixed(rank.pair_s / 2),
        prefill_token_fixed=_fixed(rank.pair_s * gpu.tile_tokens),
        kv_tokens=capacity,
        max_seqs=max_seqs,
        block_size=block_size,
        weight_bytes_per_gpu=shape.params * WEIGHT_BYTES // tp,
        gpu_count=tp,
        kv_bytes_per_token_per_gpu=round(shape.layers * rank.kv_bytes),
    )


@dataclass(frozen=True, slots=True)
class _Rank:
    """One rank of a tensor-parallel engine; seconds and bytes of its parts."""

    gpu: Gpu
    shape: ModelShape
    tp: int
    step_s: float

    @property
    def kv_bytes(self) -> float:
        """Bytes that one token's keys and values take in one layer."""
        return 2 * max(self.shape.kv_heads / self.tp, 1) * HEAD_SIZE * WEIGHT_BYTES

    @property
    def pair_s(self) -> float:
        """Seconds of one query-key pair over all layers."""
        work = 4 * (self.shape.query_heads / self.tp) * HEAD_SIZE
        return self.shape.layers * work / (self.gpu.flops * self.gpu.attention_share)

    def token_s(self, tokens: int, max_seqs: int) -> float:
        """F[T]: everything that depends on the number of new tokens alone."""
        constant = self.step_s + self.shape.layers * self.gpu.decode_s
        return self._linear_s(tokens) + self._communication_s(tokens) + self._head_s(min(tokens, max_seqs)) + constant

    def _linear_s(self, tokens: int) -> float:
        gpu, shape = self.gpu, self.shape
        params = shape.layer_params / self.tp
        memory_s = WEIGHT_BYTES * params / (gpu.bytes_per_s * gpu.bandwidth_share)
        compute_s = 2 * params * tokens / (gpu.flops * gpu.flops_share)
        corner_s = pow(pow(memory_s, gpu.corner) + pow(compute_s, gpu.corner), 1 / gpu.corner)
        small_s = gpu.layer_s + gpu.activation_passes * tokens * shape.hidden * 2 / gpu.bytes_per_s
        return shape.layers * (corner_s + small_s)

    def _communication_s(self, tokens: int) -> float:
        if self.tp == 1:
            return 0.0
        link = self.gpu.all_reduce[self.tp]
        sent = tokens * self.shape.hidden * 2 * 2 * (self.tp - 1) / self.tp
        return 2 * self.shape.layers * sqrt(link.latency_s**2 + (sent / link.bytes_per_s) ** 2)

    def _head_s(self, rows: int) -> float:
        gpu = self.gpu
        weights = self.shape.vocabulary * self.shape.hidden / self.tp
        memory_s = 2 * weights / (gpu.bytes_per_s * gpu.bandwidth_share)
        return sqrt(memory_s**2 + (2 * weights * rows / (gpu.flops * gpu.flops_share)) ** 2)

    def kv_tokens(self) -> int:
        """Tokens that fit beside weights and activations on all ranks together."""
        reserve = ACTIVATION_BYTES + (COMMUNICATION_BYTES if self.tp > 1 else 0.0)
        weights = self.shape.params * WEIGHT_BYTES / self.tp
        room = self.gpu.memory_gib * 2**30 * MEMORY_SHARE - weights - reserve
        return floor(room / (self.shape.layers * self.kv_bytes))


def _known(table: Mapping[str, T], name: str, kind: str) -> T:
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(table)}")
    return table[name]


def _check_parallelism(gpu: Gpu, shape: ModelShape, tp: int, gpu_name: str, model_name: str) -> None:
    if tp < 1 or shape.query_heads % tp:
        raise ValueError(f"tp {tp} does not divide the {shape.query_heads} heads of {model_name}")
    if tp > 1 and tp not in gpu.all_reduce:
        known = ", ".join(str(degree) for degree in (1, *gpu.all_reduce))
        raise ValueError(f"no all-reduce figure for {gpu_name} at tp {tp}; known: {known}")


def _ps(seconds: float) -> int:
    return round(PS_PER_S * seconds)


def _fixed(seconds: float) -> int:
    return round(PS_PER_S * seconds * (1 << PAIR_SHIFT))
