"""How far whole stretches of decode iterations reach, in time and in blocks.

Iterations without prefill take a + BETA*K each, a = F[B] + CB*B, and K grows by B, so that n of them take
n*a + BETA*(n*K + B*n*(n-1)/2): integers, hence exactly what a loop would add up.
"""

from math import sqrt

from forebay.simulator.kernel import columns as at
from forebay.simulator.kernel.columns import Ints
from forebay.simulator.kernel.structures import set_end


def distance_ps(step: int, slope: int, decodes: int, context: int, n: int) -> int:
    """How long n iterations of a stretch take."""
    return n * step + slope * (n * context + decodes * (n * (n - 1) // 2))


def passed(inst: Ints, i: int, now_ps: int) -> int:
    """Boundaries inside the work in progress at or before now, its end not counted. The float only guesses."""
    last = inst[i + at.LENGTH] - 1
    if last == 0:
        return 0
    gone_ps = now_ps - inst[i + at.START]
    step, slope, decodes, context = inst[i + at.STEP], inst[i + at.SLOPE], inst[i + at.DECODES], inst[i + at.CONTEXT]
    half = 0.5 * slope * decodes
    linear = step + slope * context - half
    j = min(last, int(2.0 * gone_ps / (linear + sqrt(linear * linear + 4.0 * half * gone_ps))))
    while j > 0 and distance_ps(step, slope, decodes, context, j) > gone_ps:
        j -= 1
    while j < last and distance_ps(step, slope, decodes, context, j + 1) <= gone_ps:
        j += 1
    return j


def boundary_ps(inst: Ints, i: int, n: int) -> int:
    """When iteration n of the work in progress ends."""
    if n == inst[i + at.LENGTH]:
        return inst[i + at.END]
    stretch = distance_ps(inst[i + at.STEP], inst[i + at.SLOPE], inst[i + at.DECODES], inst[i + at.CONTEXT], n)
    return inst[i + at.START] + stretch


def cut(head: Ints, inst: Ints, tree: Ints, i: int, now_ps: int) -> None:
    """Ends a stretch with the iteration that runs now."""
    if inst[i + at.LENGTH] == 1 or inst[i + at.END] == at.NEVER_PS:
        return
    n = passed(inst, i, now_ps) + 1
    end_ps = boundary_ps(inst, i, n)
    inst[i + at.LENGTH] = n
    inst[i + at.END] = end_ps
    if inst[i + at.HUNG] < 0:
        set_end(head, tree, i // at.INST_WIDTH, end_ps)


# Blocks


def blocks_of(tokens: int, block: int) -> int:
    """Blocks that hold so many tokens."""
    return (tokens + block - 1) // block


def blocks_needed(inst: Ints, room: Ints, i: int, n: int) -> int:
    """Blocks that the decodes take in the next n iterations; each takes one when its context fills its last."""
    block, residues = inst[i + at.BLOCK], inst[i + at.RESIDUES]
    count = n // block * inst[i + at.DECODES]
    residue = -inst[i + at.CLOCK] % block
    for _ in range(n % block):
        count += room[residues + residue]
        residue = residue - 1 if residue > 0 else block - 1
    return count


def blocks_due(inst: Ints, room: Ints, i: int) -> int:
    """Blocks that the decodes take in the next iteration."""
    return room[inst[i + at.RESIDUES] + -inst[i + at.CLOCK] % inst[i + at.BLOCK]]


def affordable(inst: Ints, room: Ints, i: int) -> int:
    """The most iterations for which the free blocks last; at least one decode runs."""
    block, residues = inst[i + at.BLOCK], inst[i + at.RESIDUES]
    rounds = inst[i + at.FREE] // inst[i + at.DECODES]
    left = inst[i + at.FREE] - rounds * inst[i + at.DECODES]
    n = rounds * block
    residue = -inst[i + at.CLOCK] % block
    while room[residues + residue] <= left:
        left -= room[residues + residue]
        residue = residue - 1 if residue > 0 else block - 1
        n += 1
    return n
