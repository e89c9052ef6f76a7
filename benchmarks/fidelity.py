"""How far the instance model is from engines that were measured: recorded vLLM runs, a live emulator, a live Triton.

Constants are never fitted to what they are judged by. Recorded runs: from measured layers with nothing fitted; with the
time between two kernels fitted on the other run; and fitted on what had ended by the middle of the run, judged by the
rest. Live emulator: the times that a client sees against those of the simulator's instance. Live Triton: calibrated on
an idle and a closed-loop load, judged by a load with arrivals at random.

Goals: E2E median error of a request <= 3 % on recorded runs, <= 5 % on a live Triton.
Run: PYTHONPATH=services:clients/python python -m benchmarks.fidelity [--live emulator] [--live triton] [--quick]
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import common, live
from forebay.core.instance import EngineFlags, EngineProfile
from forebay.simulator.calibration.constants import Constant, apply, blank, known, table
from forebay.simulator.calibration.errors import Errors, errors
from forebay.simulator.calibration.fit import fit
from forebay.simulator.calibration.layers import Layers, profile_from_layers
from forebay.simulator.calibration.replay import replay
from forebay.simulator.calibration.runs import Run, make_run, read_runs
from forebay.simulator.profiles import profile_of

DATA = Path(os.environ.get("FOREBAY_DATA", live.ROOT.parent / "shared" / "data")) / "open" / "perf"

ADMISSION = EngineFlags(reserve_full_prompt=False, admits_ahead=True)
"""vLLM 0.19 plans an iteration while the last one runs, and admits a prompt when its first chunk fits; the recorded
runs never fill their memory."""

COLUMNS = (
    "run",
    "constants from",
    "TTFT mean %",
    "TPOT mean %",
    "E2E mean %",
    "E2E p99 %",
    "of a request %",
    "makespan %",
)

EMULATED = "A100-80G/Llama-3-8B/tp1"
MODEL = "smollm2"
SLOTS, BATCH_TOKENS, SLOT_TOKENS = 4, 256, 2_048
"""Of compose/triton/models/smollm2."""
WORDS, TOKENS = (2, 60), (12, 48)
"""Of the prompts and answers of the live Triton's loads."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded run with what its engine's layers were measured by, and the profile that follows."""

    run: Run
    layers: Layers
    profile: EngineProfile

    @property
    def name(self) -> str:
        """Of the model."""
        return self.layers.name


# RTX PRO 6000: weights, activations and graphs leave this many tokens of KV cache on each card (engine-model rule, util
# 0.9); neither run comes near it. Kernels of a layer, from vLLM's model code: norm, QKV, rotary, cache write,
# attention, output, norm, gate-up, activation, down; and norm, QKV, QK norm, rotary, cache write, attention, output,
# norm, router, top-k, all-gather, alignment, first experts, activation, second experts, sum, reduce-scatter.
LLAMA = Layers("Llama-3.1-8B", layer_count=32, kv_tokens=560_000, max_seqs=128, max_batch_tokens=2_048, kernels=10)
# Collectives between two cards over PCIe: latency of NCCL on two RTX 4090 without peer-to-peer
# (https://github.com/tinygrad/open-gpu-kernel-modules/issues/17); bandwidth of NCCL with its defaults on RTX PRO 6000,
# 22.2 GB/s with cards at the processors and 40.1 behind switches
# (https://github.com/voipmonitor/rtx6kpro/blob/master/hardware/pcie-bandwidth.md). Nobody says what host the run had:
# the geometric mean.
LINK_S, LINK_S_RANGE = 12e-6, (8e-6, 20e-6)
LINK_GB_PER_S, LINK_GB_PER_S_RANGE = 29.8, (22.2, 40.1)
KERNELS, KERNELS_RANGE = 17, (15, 19)
"""Fewer where a compiler fuses small ones, more where a norm or the alignment is two."""
QWEN = Layers(
    "Qwen3-30B-A3B",
    layer_count=48,
    kv_tokens=500_000,
    max_seqs=128,
    max_batch_tokens=2_048,
    experts=128,
    experts_each=8,
    replicas=2,
    hidden=2_048,
    link_s=LINK_S,
    link_bytes_per_s=LINK_GB_PER_S * 1e9,
    kernels=KERNELS,
)
FILES = {
    LLAMA.name: ("Llama-3.1-8B", "meta-llama_Llama-3.1-8B"),
    QWEN.name: ("Qwen3-30B-A3B-Instruct-2507", "Qwen_Qwen3-30B-A3B-Instruct-2507"),
}
"""The names of a model in the files of runs and of layers."""


def recorded(layers: Layers) -> Recorded:
    """A run of vLLM 0.19 on RTX PRO 6000."""
    model, tables = FILES[layers.name]
    # The runs do not say what was found in the prefix cache; some prefills are shorter than their prompts.
    run = read_runs(DATA / f"vllm_bench_RTXPRO6000_{model}_requests.jsonl.gz", hits_known=False)[0]
    return Recorded(run, layers, profile_from_layers(str(DATA / f"llmservingsim_RTXPRO6000_{tables}_bf16_tp1"), layers))


def host_time(profile: EngineProfile) -> list[Constant]:
    """What traffic alone tells: the host's time an iteration."""
    return [known(profile)["step_s"]]


def fitted_s(one: Recorded) -> float:
    """The host's time an iteration that fits the whole run."""
    return fit(one.profile, [one.run], host_time(one.profile), ADMISSION).values["step_s"]


def crossed(one: Recorded, other: Recorded, other_step_s: float) -> Errors:
    """Errors of a run with the time between two kernels of the other run."""
    step_s = other_step_s / other.layers.kernel_count * one.layers.kernel_count
    return judge(one, apply(one.profile, host_time(one.profile), [step_s]))


def row(name: str, source: str, found: Errors) -> list[common.Cell]:
    """A line of the table."""
    values = (found.ttft.mean, found.tpot.mean, found.e2e.mean, found.e2e.p99)
    signed = [f"{value:+.1f}" for value in values]
    return [name, source, *signed, f"{found.e2e.request:.2f}", f"{found.makespan:+.1f}"]


def judge(one: Recorded, profile: EngineProfile, rows: np.ndarray | None = None) -> Errors:
    """Errors of one recorded run under a profile."""
    return errors(one.run, replay(one.run, profile, ADMISSION), rows)


def offline(report: common.Report) -> None:
    """The recorded runs."""
    runs = [recorded(LLAMA), recorded(QWEN)]
    steps_s = {one.name: fitted_s(one) for one in runs}
    lines, figures = [], report.figures
    for one, other in (runs, runs[::-1]):
        key = one.name.split("-")[0].lower()
        plain = judge(one, one.profile)
        lines.append(row(one.name, "measured layers, nothing fitted", plain))
        figures[f"{key}_layers_e2e_request_pct"] = plain.e2e.request
        gap_us = 1e6 * steps_s[other.name] / other.layers.kernel_count
        across = crossed(one, other, steps_s[other.name])
        lines.append(row(one.name, f"{gap_us:.2f} us a kernel of {other.name}", across))
        figures[f"{key}_other_run_e2e_request_pct"] = across.e2e.request
        middle_s = float(one.run.last_s.max()) / 2
        early = fit(one.profile, [one.run], host_time(one.profile), ADMISSION, until_s=middle_s)
        rest = judge(one, early.profile, one.run.last_s > middle_s)
        source = f"step {1e3 * early.values['step_s']:.2f} ms of its first half"
        lines.append(row(f"{one.name}, second half", source, rest))
        figures[f"{key}_second_half_e2e_request_pct"] = rest.e2e.request
    report.table("Recorded vLLM 0.19 runs on RTX PRO 6000, constants from elsewhere", COLUMNS, lines)
    sensitivity(report, runs[0], steps_s[LLAMA.name])
    fitted = [
        row(
            one.name,
            f"step {1e3 * steps_s[one.name]:.2f} ms of this very run: no accuracy",
            judge(one, apply(one.profile, host_time(one.profile), [steps_s[one.name]])),
        )
        for one in runs
    ]
    report.table("The same, fitted to what is judged", COLUMNS, [*fitted, *catalog(runs[0])])


def sensitivity(report: common.Report, llama: Recorded, llama_step_s: float) -> None:
    """What the constants that neither run tells do to predictions across runs, each at the ends of its range."""
    changes = [("as above", QWEN)]
    changes += [(f"link {1e6 * at:.0f} us", replace(QWEN, link_s=at)) for at in LINK_S_RANGE]
    changes += [(f"link {at} GB/s", replace(QWEN, link_bytes_per_s=at * 1e9)) for at in LINK_GB_PER_S_RANGE]
    changes += [(f"{at} kernels a layer", replace(QWEN, kernels=at)) for at in KERNELS_RANGE]
    changes += [("one constant a step, whatever its kernels", replace(QWEN, kernels=0))]
    lines: list[list[common.Cell]] = []
    worst = 0.0
    for what, layers in changes:
        same = replace(llama.layers, kernels=layers.kernels and LLAMA.kernels)
        qwen = recorded(layers)
        step_s = fitted_s(qwen)
        found = (
            _across(replace(llama, layers=same), qwen, step_s),
            _across(qwen, replace(llama, layers=same), llama_step_s),
        )
        worst = max(worst, *(one.e2e.request for one in found)) if layers.kernels else worst
        cells = [f"{value:+.1f}" for one in found for value in (one.ttft.mean, one.e2e.mean)]
        requests = [f"{one.e2e.request:.2f}" for one in found]
        lines.append([what, f"{1e3 * step_s:.2f}", *cells[:2], requests[0], *cells[2:], requests[1]])
    report.figures["across_runs_worst_e2e_request_pct"] = worst
    columns = (
        "changed",
        "Qwen's step ms",
        *(f"{name} {what}" for name in ("Llama", "Qwen") for what in ("TTFT %", "E2E %", "of a request %")),
    )
    report.table("Across runs, with the constants from outside at the ends of their ranges", columns, lines)


def _across(one: Recorded, other: Recorded, other_step_s: float) -> Errors:
    """`crossed`, or the other run's step as it is where kernels are not counted."""
    if one.layers.kernels:
        return crossed(one, other, other_step_s)
    return judge(one, apply(one.profile, host_time(one.profile), [other_step_s]))


def catalog(llama: Recorded) -> list[list[common.Cell]]:
    """The catalog's profile of the same engine, whose constant was once fitted to this run, and without it."""
    profile = profile_of("RTXPRO6000/Llama-3-8B/tp1", max_seqs=128)
    bare = apply(profile, host_time(profile), [-3.25e-3])
    return [
        row(llama.name, "catalog, step 3.25 ms fitted to it", judge(llama, profile)),
        row(llama.name, "catalog without it", judge(llama, bare)),
    ]


def emulator(report: common.Report, quick: bool) -> None:
    """A client's times at an emulated instance against the simulator's instance with the same arrivals."""
    profile = profile_of(EMULATED)
    lines = []
    for scale, coalesce_ms in ((1.0, 5.0), (1.0, 0.0), (0.1, 0.0))[: 2 if quick else 3]:
        count, per_s = (40, 4.0) if quick else (80, 4.0)
        asks = live.make_asks(round(count * max(scale, 0.25)), (50, 1_200), (10, 120), seed=11, per_s=per_s * scale)
        with tempfile.TemporaryDirectory() as folder:
            options = (f"--time-scale={scale}", f"--coalesce-ms={coalesce_ms}")
            with live.emulated("m", EMULATED, asks, Path(folder), *options) as address:
                rows = live.record(address, "m", partial(live.Recorder.open_loop, asks=asks))
        times = ("arrival_s", "first_s", "last_s")
        run = make_run("emulator", [{**one, **{name: one[name] * scale for name in times}} for one in rows])
        modelled = replay(run, profile, EngineFlags())
        lines.append(_late(run, modelled.first_s, modelled.last_s, scale, coalesce_ms))
        name = f"emulator_scale_{scale:g}_coalesce_{coalesce_ms:g}_last_p50_ms".replace(".", "_")
        report.figures[name] = float(np.median(np.abs(run.last_s - modelled.last_s))) / scale * 1e3
    columns = (
        "time scale",
        "coalesce ms",
        "requests",
        "first p50 ms",
        "first p99 ms",
        "last p50 ms",
        "last p99 ms",
        "E2E %",
    )
    report.table(
        "Live emulator against the simulator's instance: absolute differences on the wall clock", columns, lines
    )


def _late(run: Run, first_s: np.ndarray, last_s: np.ndarray, scale: float, coalesce_ms: float) -> list[common.Cell]:
    first, last = (np.abs(ours - real) / scale * 1e3 for ours, real in ((first_s, run.first_s), (last_s, run.last_s)))
    e2e = np.abs((last_s - run.arrival_s) / (run.last_s - run.arrival_s) - 1)
    quantiles = [float(np.quantile(each, q)) for each in (first, last) for q in (0.5, 0.99)]
    return [scale, coalesce_ms, len(run), *quantiles, 100 * float(np.median(e2e))]


def triton(report: common.Report, quick: bool) -> None:
    """The real Triton with a real model: calibrated on one load, judged by another."""
    if not (live.ROOT / ".triton" / "installed.txt").exists():
        raise click.ClickException("no real Triton here; install it with: make triton")
    each, count = (1, 24) if quick else (2, 48)
    with (
        tempfile.TemporaryDirectory() as folder,
        live.real(MODEL, Path(folder), prompt_cache="false") as (address, pid),
    ):
        clock = live.CoreClock(pid)
        live.record(address, MODEL, partial(live.Recorder.closed_loop, asks=_asks(4, 1), clients=2, name="warm"))
        clock.start()
        closed = {"closed loops 1": sweep(address, each, seed=20)}
        per_s = LOAD * capacity_per_s(closed["closed loops 1"], each)
        opened = {"open loop 1": _open_rows(address, count, per_s, seed=30)}
        closed["closed loops 2"] = sweep(address, each, seed=40)
        opened["open loop 2"] = _open_rows(address, count, per_s, seed=50)
        closed["closed loops 3"] = sweep(address, each, seed=60)
        clock.stop()
    report.figures["triton_requests_per_s"] = per_s
    report.figures["triton_core_lost_pct"] = 100 * clock.lost_share()
    for name, read in (("wall", list), ("core", clock.correct)):
        closed_runs = [make_run(key, read(rows)) for key, rows in closed.items()]
        opened_runs = [make_run(key, read(rows)) for key, rows in opened.items()]
        _judge_triton(report, name, closed_runs, opened_runs)


CLOCKS = {"wall": "the wall clock", "core": "a clock that stands still while the engine waits for a core"}


def _judge_triton(report: common.Report, clock: str, closed: Sequence[Run], opened: Sequence[Run]) -> None:
    """The tables of one clock."""
    fitted = _learn(closed)
    for tokens in (1, SLOTS, BATCH_TOKENS):
        report.figures[f"triton_{clock}_step_{tokens}_ms"] = fitted.iteration_ps[tokens] / 1e9
    found = [_error(run, fitted) for run in opened]
    lines = [row(one.run, "the closed loops", one) for one in found]
    lines += [row(run.name, "that loop itself: no accuracy", _error(run, _learn([run]))) for run in (*opened, *closed)]
    drift = [_error(run, _learn(closed[:1])) for run in closed[1:]]
    lines += [row(one.run, "closed loops 1", one) for one in drift]
    report.table(f"Live Triton with SmolLM2, times on {CLOCKS[clock]}", COLUMNS, lines)
    report.figures[f"triton_{clock}_e2e_request_pct"] = float(np.median([one.e2e.request for one in found]))
    report.figures[f"triton_{clock}_e2e_mean_pct"] = float(np.mean([one.e2e.mean for one in found]))
    report.figures[f"triton_{clock}_drift_pct"] = float(np.median([one.e2e.request for one in drift]))


def capacity_per_s(rows: Sequence[dict[str, Any]], each: int) -> float:
    """Requests a second of the closed loop with all slots, the last of a sweep."""
    full = sorted(rows, key=lambda one: float(one["arrival_s"]))[-_FULL * each :]
    return len(full) / float(max(one["last_s"] for one in full) - full[0]["arrival_s"])


LOAD = 0.5
"""Of what the closed loop with all slots gets done: at more, the queue is what the noise of the machine makes of it."""

_FULL = 12
"""Requests of the closed loop with all slots."""


def _learn(runs: Sequence[Run]) -> EngineProfile:
    """All that such runs tell of an engine of which only the limits are known.

    Contexts are alike in them, so what a token of context costs cannot be told from what a sequence costs.
    """
    start = blank(SLOTS, BATCH_TOKENS, SLOTS * SLOT_TOKENS)
    wanted = [*table(start), known(start)["frontend_s"]]
    return fit(start, runs, wanted, EngineFlags()).profile


def sweep(address: str, each: int, seed: int) -> list[dict[str, Any]]:
    """One stream, then more and more clients at once; the rows of all."""
    levels = [(1, 8), (2, 8), (3, 9), (SLOTS, _FULL)]

    async def load(recorder: live.Recorder) -> None:
        for clients, count in levels:
            await recorder.closed_loop(_asks(count * each, seed + clients), clients, f"{clients}")

    return live.record(address, MODEL, load)


def _open_rows(address: str, count: int, per_s: float, seed: int) -> list[dict[str, Any]]:
    asks = live.make_asks(count, WORDS, TOKENS, seed, per_s)
    return live.record(address, MODEL, partial(live.Recorder.open_loop, asks=asks))


def _asks(count: int, seed: int) -> list[live.Ask]:
    return live.make_asks(count, WORDS, TOKENS, seed)


def _error(run: Run, profile: EngineProfile) -> Errors:
    return errors(run, replay(run, profile, EngineFlags()))


PARTS = {"emulator": emulator, "triton": triton}


@click.command()
@click.option("--live", "parts", multiple=True, type=click.Choice(list(PARTS)), help="Measure a live server too.")
@common.options
def main(parts: Sequence[str], quick: bool, json_path: str | None) -> None:
    """Prints errors of the instance model against measured engines."""
    report = common.Report("fidelity", quick)
    if DATA.exists():
        offline(report)
    else:
        print(f"recorded runs are not in {DATA}; set FOREBAY_DATA")
    for part in parts:
        PARTS[part](report, quick)
    report.close(json_path)


if __name__ == "__main__":
    main()
