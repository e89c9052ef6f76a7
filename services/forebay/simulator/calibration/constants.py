"""The constants that calibration may move, what an iteration owes to each, and the profile that they make.

The length of an iteration is linear in every one of them (`core.instance.profile`): fitting is a linear problem as soon
as it is known which requests shared which iterations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from forebay.core.instance import EngineProfile
from forebay.core.instance.profile import PAIR_SHIFT
from forebay.core.units import PS_PER_S

Floats = npt.NDArray[np.float64]

SHAPE = ("decodes", "context_tokens", "prompt_tokens", "double_pairs")
"""What is recorded of every iteration: B, K, P, and twice the query-key pairs of its prefills."""

FRONTEND = "frontend_s"
HOST = ("step_s", "prefill_s")
TABLE = "table"
"""What stands for all of `table` where constants are named."""


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant in seconds a unit; `least` and `most` bound what is added to the profile's own."""

    name: str
    least: float = 0.0
    most: float = np.inf
    knots: tuple[int, int] = (0, 0)


def known(profile: EngineProfile) -> dict[str, Constant]:
    """What can be added to `profile` by name: host times only upwards from 0, the others down to nothing."""
    step_s = profile.iteration_ps[1] / PS_PER_S
    own = {
        "step_s": step_s,
        "prefill_s": profile.prefill_ps / PS_PER_S,
        "seq_s": profile.decode_ps / PS_PER_S,
        "context_s": profile.context_token_ps / PS_PER_S,
        "pair_s": 2 * profile.half_pair_fixed / PS_PER_S / (1 << PAIR_SHIFT),
        "mixed_context_s": profile.mixed_context_token_ps / PS_PER_S,
        "mixed_pair_s": profile.mixed_pair_ps / PS_PER_S,
        FRONTEND: profile.frontend_ps / PS_PER_S,
    }
    return {name: Constant(name, -value) for name, value in own.items()}


def table(profile: EngineProfile) -> list[Constant]:
    """F[T] itself, as rises between knots, for engines without a catalog.

    Up to the seats, where decodes alone are, the knots are 1, 2, 3, 4, 6, 8, 12 ...; beyond, powers of two.
    """
    fine = {k for power in range(16) for k in (2**power, 3 * 2 ** max(0, power - 1)) if k <= profile.max_seqs}
    coarse = {2**power for power in range(16) if profile.max_seqs < 2**power < profile.max_batch_tokens}
    knots = sorted(fine | coarse | {1, profile.max_seqs, profile.max_batch_tokens})
    rises = [Constant(f"table_{low}_{high}_s", 0.0, knots=(low, high)) for low, high in pairwise(knots)]
    return [Constant("table_0_1_s", 1e-6, knots=(0, 1)), *rises]


def blank(max_seqs: int, max_batch_tokens: int, kv_tokens: int, block_size: int = 1) -> EngineProfile:
    """An engine of which nothing but its limits is known; fit `table` to make something of it."""
    return EngineProfile(
        name="new",
        status="uncalibrated",
        iteration_ps=(0, *[PS_PER_S // 100] * max_batch_tokens),
        decode_ps=0,
        context_token_ps=0,
        prefill_ps=0,
        half_pair_fixed=0,
        prefill_token_fixed=0,
        kv_tokens=kv_tokens,
        max_seqs=max_seqs,
        block_size=block_size,
    )


def features(shape: Floats, constants: Sequence[Constant]) -> Floats:
    """Units of each constant in iterations of `shape`, one a row, columns as in `SHAPE`."""
    decodes, context, prompt, pairs = shape.T
    tokens = decodes + prompt
    prefills = prompt > 0
    units = {
        "step_s": np.ones_like(tokens),
        "prefill_s": prefills.astype(float),
        "seq_s": decodes,
        "context_s": context,
        "pair_s": pairs / 2,
        "mixed_context_s": context * prefills,
        "mixed_pair_s": decodes * prompt,
        FRONTEND: np.zeros_like(tokens),
    }
    columns = [_ramp(tokens, c.knots) if c.knots[1] else units[c.name] for c in constants]
    return np.stack(columns, axis=1) if columns else np.zeros((len(tokens), 0))


def apply(profile: EngineProfile, constants: Sequence[Constant], values: Sequence[float] | Floats) -> EngineProfile:
    """`profile` with `values` added to its constants; a table replaces the profile's own."""
    by_name = {constant.name: value for constant, value in zip(constants, values, strict=True)}
    steps = np.array(profile.iteration_ps, dtype=float)
    tokens = np.arange(len(steps), dtype=float)
    ramps = [(constant.knots, value) for constant, value in zip(constants, values, strict=True) if constant.knots[1]]
    if ramps:
        steps = np.sum([_ramp(tokens, knots) * value * PS_PER_S for knots, value in ramps], axis=0)
    steps[1:] += by_name.get("step_s", 0.0) * PS_PER_S
    rounded = np.maximum.accumulate(np.maximum(np.rint(steps), [0, *[1] * (len(steps) - 1)]))

    def added(own: int, name: str, scale: float = PS_PER_S) -> int:
        return max(0, own + round(float(by_name.get(name, 0.0)) * scale))

    return replace(
        profile,
        iteration_ps=tuple(int(ps) for ps in rounded),
        prefill_ps=added(profile.prefill_ps, "prefill_s"),
        decode_ps=added(profile.decode_ps, "seq_s"),
        context_token_ps=added(profile.context_token_ps, "context_s"),
        half_pair_fixed=added(profile.half_pair_fixed, "pair_s", PS_PER_S * (1 << PAIR_SHIFT) / 2),
        mixed_context_token_ps=added(profile.mixed_context_token_ps, "mixed_context_s"),
        mixed_pair_ps=added(profile.mixed_pair_ps, "mixed_pair_s"),
        frontend_ps=added(profile.frontend_ps, FRONTEND),
    )


def durations_s(profile: EngineProfile, shape: Floats) -> Floats:
    """Lengths of iterations under `profile`, without the rounding to picoseconds."""
    decodes, context, prompt, pairs = shape.T
    steps = np.array(profile.iteration_ps, dtype=float)[(decodes + prompt).astype(int)]
    decode = profile.decode_ps * decodes + profile.context_token_ps * context
    fixed = profile.half_pair_fixed * pairs + profile.prefill_token_fixed * prompt
    shared = profile.mixed_context_token_ps * context + profile.mixed_pair_ps * decodes * prompt
    prefill = np.where(prompt > 0, profile.prefill_ps + fixed / (1 << PAIR_SHIFT) + shared, 0.0)
    total: Floats = (steps + decode + prefill) / PS_PER_S
    return total


def _ramp(tokens: Floats, knots: tuple[int, int]) -> Floats:
    """0 up to the lower knot, 1 from the upper one on, straight between."""
    low, high = knots
    return np.clip((tokens - low) / (high - low), 0.0, 1.0)
