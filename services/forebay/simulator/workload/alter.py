"""What may be done to a workload before it is run.

Every function gives a new one and leaves the old as it was. Raises ValueError for arguments out of range, for names
that the workload does not have, and where no request is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from forebay.core.units import US_PER_S
from forebay.core.values import SloClass
from forebay.simulator.workload.base import NAMES, PREDICTED, Bools, Ints, Ragged, Workload, change, take
from forebay.simulator.workload.combine import merge, moved
from forebay.simulator.workload.streams import stream

MARKS = ("model", "tenant", "region", "application")
HOWS = ("stretch", "copies")


def window(workload: Workload, start_s: float, end_s: float) -> Workload:
    """The requests that arrive in [start_s, end_s), counted anew from `start_s`.

    Of a closed loop those stay whose parents do. Raises ValueError where nothing is left.
    """
    if not 0 <= start_s < end_s:
        raise ValueError("a window needs 0 <= start_s < end_s")
    times = workload.arrival_us
    kept = keep(workload, (times >= start_s * US_PER_S) & (times < end_s * US_PER_S))
    return change(kept, arrival_us=kept.arrival_us - round(start_s * US_PER_S))


def first(workload: Workload, count: int) -> Workload:
    """The first `count` requests, or all where there are fewer."""
    if count < 1:
        raise ValueError("count must be at least 1")
    return take(workload, np.arange(min(count, len(workload))))


def keep(workload: Workload, kept: Bools) -> Workload:
    """The rows that are marked, but for those of which a parent is not kept; raises ValueError where none is."""
    kept = kept.copy()
    parents = workload.parents_of
    for row in np.flatnonzero(parents.counts()):
        if kept[row]:
            kept[row] = kept[parents.values[parents.start[row] : parents.start[row + 1]]].all()
    if not kept.any():
        raise ValueError("no request is left; take a longer window or a larger share")
    return take(workload, np.flatnonzero(kept))


def only(workload: Workload, column: str, names: Sequence[str]) -> Workload:
    """The requests of these models, tenants, regions or applications."""
    table = _table(workload, column)
    unknown = sorted(set(names) - set(table))
    if unknown:
        raise ValueError(f"no {column} is named {', '.join(unknown)}; there are {', '.join(table)}")
    return keep(workload, np.isin(getattr(workload, column), [table.index(name) for name in names]))


def rename(workload: Workload, column: str, names: Mapping[str, str]) -> Workload:
    """Other names for models, tenants, regions or applications; two may become one."""
    table = _table(workload, column)
    unknown = sorted(set(names) - set(table))
    if unknown:
        raise ValueError(f"no {column} is named {', '.join(unknown)}; there are {', '.join(table)}")
    renamed = [names.get(name, name) for name in table]
    merged = tuple(dict.fromkeys(renamed))
    places = np.array([merged.index(name) for name in renamed])
    return change(workload, **{column: places[getattr(workload, column)], NAMES[column]: merged})


def scale_load(
    workload: Workload, factor: float, how: str = "stretch", seed: int = 0, shift_s: float = 60.0
) -> Workload:
    """`factor` times the load.

    "stretch" divides all times by the factor: every request stays, and gaps keep their variation. "copies" keeps the
    length of the trace and its daily shape: below 1 each request (or whole program) stays with that probability; above
    1 copies are laid over it, each program or single request moved by up to `shift_s` either way, around the ends.
    Copies share no prefix blocks and no programs with the original. Thinning and copies bring the variation of gaps
    nearer to that of Poisson.
    """
    if not (0 < factor < 1e6 and how in HOWS):
        raise ValueError(f"factor must be above 0, and how one of {', '.join(HOWS)}")
    if factor == 1:
        return workload
    if how == "stretch":
        scaled = change(workload, arrival_us=np.rint(workload.arrival_us / factor).astype(np.int64))
    else:
        scaled = _copied(workload, factor, seed, shift_s)
    return replace(scaled, notes=(*workload.notes, f"load times {factor:g} ({how}, seed {seed})"))


def _copied(workload: Workload, factor: float, seed: int, shift_s: float) -> Workload:
    whole, rest = int(factor), factor - int(factor)
    copies = [workload] * min(whole, 1)
    copies += [_moved(workload, f"copy {number}", seed, shift_s) for number in range(1, whole)]
    if rest > 1e-9:
        base = _moved(workload, f"copy {whole}", seed, shift_s) if whole else workload
        chance = stream(seed, "thin").random(int(_units(base).max()) + 1)
        copies.append(keep(base, chance[_units(base)] < rest))
    return merge(copies) if len(copies) > 1 else copies[0]


def _moved(workload: Workload, purpose: str, seed: int, shift_s: float) -> Workload:
    """The same programs and requests at other times; what belongs together moves together."""
    units = _units(workload)
    start_us = np.full(int(units.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(start_us, units, workload.arrival_us)
    span_us = int(workload.arrival_us[-1]) + 1
    reach_us = min(shift_s * US_PER_S, span_us / 2)
    moves = np.rint(stream(seed, purpose).uniform(-reach_us, reach_us, len(start_us))).astype(np.int64)
    offsets = (start_us + moves) % span_us - start_us
    arrivals = workload.arrival_us + offsets[units]
    return moved(workload, arrivals)


def _units(workload: Workload) -> Ints:
    """What belongs together: the number of each row's program, or one of its own."""
    program_count = int(workload.program.max(initial=-1)) + 1
    return np.where(workload.program >= 0, workload.program, program_count + np.arange(len(workload)))


def mark(workload: Workload, column: str, shares: Mapping[str, float], seed: int = 0) -> Workload:
    """Names drawn by share for "model", "tenant", "region" or "application"; a program gets one name for all its calls.

    Shares are weights of requests that stand alone and of programs; they need not add up to 1.
    """
    _table(workload, column)
    drawn = _drawn(workload, column, list(shares.values()), seed)
    note = f"{column} drawn: {_shares(shares)}, seed {seed}"
    changes = {column: drawn, NAMES[column]: tuple(shares)}
    return change(workload, **changes, notes=(*workload.notes, note))


def mark_classes(
    workload: Workload,
    shares: Mapping[SloClass, float],
    deadlines_s: Mapping[SloClass, float] | None = None,
    seed: int = 0,
) -> Workload:
    """Classes drawn by share, a program at a time; those in `deadlines_s` get that deadline and others none."""
    classes = np.array([int(one) for one in shares])[_drawn(workload, "class", list(shares.values()), seed)]
    deadline_us = np.zeros(max(SloClass) + 1, dtype=np.int64)
    for one, seconds in (deadlines_s or {}).items():
        if not 0 <= seconds < 1e9:
            raise ValueError("deadlines must not be negative")
        deadline_us[one] = round(seconds * US_PER_S)
    note = f"classes drawn: {_shares({one.name.lower(): share for one, share in shares.items()})}, seed {seed}"
    return change(workload, slo_class=classes, deadline_us=deadline_us[classes], notes=(*workload.notes, note))


def _drawn(workload: Workload, purpose: str, weights: Sequence[float], seed: int) -> Ints:
    if not weights or not all(0 <= weight < 1e12 for weight in weights) or sum(weights) <= 0:
        raise ValueError("shares must be positive numbers")
    ends = np.cumsum(weights) / sum(weights)
    units = _units(workload)
    chances = stream(seed, f"mark {purpose}").random(int(units.max()) + 1)
    return np.minimum(np.searchsorted(ends, chances[units], side="right"), len(weights) - 1)


def _shares(shares: Mapping[str, float]) -> str:
    total = sum(shares.values())
    return ", ".join(f"{name} {share / total:.0%}" for name, share in shares.items())


def shuffle_lengths(workload: Workload, window_s: float, seed: int) -> Workload:
    """Other seeds of a fixed trace: within windows of `window_s` requests of one model swap what they ask.

    Prompt, output, its limit, blocks, text, application and predictions change places together; arrivals, classes,
    tenants, regions and deadlines stay. Requests of programs stay as they are, since their prompts grow from call to
    call. Every seed has the same arrivals and the same tokens in each window.
    """
    if window_s <= 0:
        raise ValueError("window_s must be above 0")
    free = np.flatnonzero((workload.program < 0) & (workload.parents_of.counts() == 0))
    group = workload.arrival_us[free] // round(window_s * US_PER_S) * len(workload.models) + workload.model[free]
    chances = stream(seed, "shuffle").random(len(free))
    source = np.arange(len(workload))
    source[free[np.argsort(group, kind="stable")]] = free[np.lexsort((chances, group))]
    asked = ("prompt_tokens", "output_tokens", "output_tokens_max", "application", "text", *PREDICTED)
    return change(
        workload,
        **{name: getattr(workload, name)[source] for name in asked},
        blocks_of=workload.blocks_of.take(source),
        notes=(*workload.notes, f"lengths shuffled within {window_s:g} s, seed {seed}"),
    )


def cap(workload: Workload, tokens_max: int, how: str = "shorten") -> Workload:
    """Prompt and output together at most `tokens_max`: "shorten" cuts the prompt (an answer that fills all alone is cut
    too, and leaves the prompt one token), "drop" leaves such requests out. Limits of outputs are cut to what fits."""
    if tokens_max < 2 or how not in ("shorten", "drop"):
        raise ValueError('tokens_max must be at least 2, and how "shorten" or "drop"')
    over = workload.prompt_tokens + workload.output_tokens > tokens_max
    if how == "drop":
        workload, done = keep(workload, ~over), "left out"
    else:
        done = "shortened"
    output = np.minimum(workload.output_tokens, tokens_max - 1)
    prompt = np.minimum(workload.prompt_tokens, tokens_max - output)
    notes = (f"{int(over.sum())} requests of more than {tokens_max} tokens {done}",) if over.any() else ()
    return change(
        workload,
        prompt_tokens=prompt,
        output_tokens=output,
        output_tokens_max=np.minimum(workload.output_tokens_max, tokens_max - prompt),
        blocks_of=workload.blocks_of.cut(-(-prompt // workload.block_tokens)),
        notes=workload.notes + notes,
    )


def attach_prompts(
    workload: Workload,
    texts: Sequence[str],
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
    applications: Sequence[str] | None = None,
    seed: int = 0,
    predicted: Sequence[Sequence[int]] | None = None,
) -> Workload:
    """The workload's arrivals with prompts of a set, paired at random, so that predictors which read text have some.

    Lengths, applications and `predicted` quantiles (empty where nobody predicted) are the prompts', since a text says
    something of its own answer only; prefix blocks go. No public set has production arrivals and text together, and the
    notes say so.
    """
    if not len(texts) or not len(texts) == len(prompt_tokens) == len(output_tokens):
        raise ValueError("there must be as many lengths as texts, and at least one")
    if len(workload.parents):
        raise ValueError("the prompts of a closed loop grow from call to call; attach prompts to an open one")
    drawn = _dealt(len(texts), len(workload), seed)
    kinds = list(applications or [""] * len(texts))
    names = tuple(dict.fromkeys(kinds))
    note = (
        f"arrivals paired at random with {len(texts)} prompts and their lengths, seed {seed}: "
        "no public set has production arrivals and text together"
    )
    return change(
        workload,
        prompt_tokens=np.array(prompt_tokens)[drawn],
        output_tokens=np.array(output_tokens)[drawn],
        output_tokens_max=np.zeros(len(workload), dtype=np.int64),
        application=np.array([names.index(kind) for kind in kinds])[drawn],
        applications=names,
        text=drawn,
        texts=tuple(texts),
        **dict(zip(PREDICTED, _quantiles(predicted or [()] * len(texts))[drawn].T, strict=True)),
        blocks_of=Ragged(np.zeros(len(workload) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)),
        notes=(*workload.notes, note),
    )


def _quantiles(predicted: Sequence[Sequence[int]]) -> Ints:
    nobody = (-1,) * len(PREDICTED)
    return np.array([tuple(one) or nobody for one in predicted], dtype=np.int64)


def _dealt(size: int, count: int, seed: int) -> Ints:
    """Places in a deck of `size`, dealt to its end before it is shuffled again."""
    rng = stream(seed, "prompts")
    return np.concatenate([rng.permutation(size) for _ in range(-(-count // size))])[:count]


def _table(workload: Workload, column: str) -> tuple[str, ...]:
    if column not in MARKS:
        raise ValueError(f"column must be one of {', '.join(MARKS)}, not {column!r}")
    table: tuple[str, ...] = getattr(workload, NAMES[column])
    return table
