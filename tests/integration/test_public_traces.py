"""The public files, read and drawn, have the statistics that were computed from them independently."""

import numpy as np
import pytest

from forebay.core.errors import ConfigError
from forebay.simulator.traces import guess, read
from forebay.simulator.workload.base import Ints, Workload
from forebay.simulator.workload.prefix import PrefixCache
from tests.unit.simulator.traces.kit import TRACES, needs_data

pytestmark = needs_data


def quantiles(column: Ints, *levels: float) -> list[float]:
    return [float(one) for one in np.quantile(column, levels)]


def peak_to_mean(workload: Workload, window_s: int) -> float:
    complete = np.bincount(workload.arrival_us // (window_s * 1_000_000))[:-1]
    return float(complete.max() / complete.mean())


def test_the_azure_conversation_trace() -> None:
    path = TRACES / "AzureLLMInferenceTrace_conv.csv.gz"
    workload = read(guess(path), path)
    gaps = np.diff(workload.arrival_us)
    assert len(workload) == 19_366
    assert workload.arrival_us[-1] / 1e6 == pytest.approx(3_502, abs=1)
    assert len(workload) / (workload.arrival_us[-1] / 1e6) == pytest.approx(5.53, abs=0.005)
    assert gaps.std() / gaps.mean() == pytest.approx(1.09, abs=0.005)
    assert [peak_to_mean(workload, window_s) for window_s in (1, 10, 60, 600)] == pytest.approx(
        [2.89, 1.77, 1.52, 1.19], abs=0.005
    )
    assert quantiles(workload.prompt_tokens, 0.5, 0.9, 0.99, 1) == pytest.approx([1_020, 2_734, 4_142, 14_050], abs=1)
    assert quantiles(workload.output_tokens, 0.5, 0.9, 0.99, 1) == pytest.approx([129, 424, 601, 1_000], abs=1)
    assert [workload.prompt_tokens.mean(), workload.output_tokens.mean()] == pytest.approx([1_155, 211], abs=0.5)
    assert np.corrcoef(workload.prompt_tokens, workload.output_tokens)[0, 1] == pytest.approx(-0.11, abs=0.005)
    assert (workload.output_tokens == 396).sum() == 425


def test_the_mooncake_conversation_trace() -> None:
    path = TRACES / "mooncake_conversation_trace.jsonl.gz"
    workload = read(guess(path), path)
    assert len(workload) == 12_031
    assert len(workload) / (workload.arrival_us[-1] / 1e6) == pytest.approx(3.40, abs=0.005)
    raw = read("mooncake", path, tick_s=0.0)
    assert [peak_to_mean(raw, window_s) for window_s in (10, 60, 600)] == pytest.approx([1.97, 1.21, 1.09], abs=0.005)
    assert peak_to_mean(workload, 60) == pytest.approx(1.21, abs=0.02)
    assert quantiles(workload.prompt_tokens, 0.5, 0.9, 0.99, 1) == pytest.approx(
        [6_909, 27_367, 85_400, 126_195], abs=1
    )
    assert quantiles(workload.output_tokens, 0.5, 0.9, 0.99, 1) == pytest.approx([350, 597, 1_118, 2_000], abs=1)
    assert [workload.prompt_tokens.mean(), workload.output_tokens.mean()] == pytest.approx([12_035, 343], abs=0.5)
    assert (np.diff(workload.arrival_us) == 0).mean() < 0.001


def test_prefix_hits_of_mooncake_without_an_end_to_the_cache() -> None:
    path = TRACES / "mooncake_conversation_trace.jsonl.gz"
    workload = read("mooncake", path)
    cache = PrefixCache(None, workload.block_tokens)
    hit_tokens = hit_blocks = 0
    for row in range(len(workload)):
        blocks = workload.blocks[workload.block_start[row] : workload.block_start[row + 1]].tolist()
        hit = cache.hit_tokens(blocks, int(workload.prompt_tokens[row]))
        hit_tokens, hit_blocks = hit_tokens + hit, hit_blocks - (-hit // workload.block_tokens)
        cache.insert(blocks)
    assert hit_blocks / len(workload.blocks) == pytest.approx(0.366, abs=0.0005)
    assert hit_tokens / workload.prompt_tokens.sum() == pytest.approx(0.374, abs=0.0005)


SERVICES = [
    ("m-large", 0.01, 864_000.0, 213, 2.73, (74, 630, 2_379, 913), (1, 47, 461, 148)),
    ("m-small", 0.002, 864_000.0, 1_131, 2.80, (19, 40, 355, 118), (1, 3, 48, 16)),
    ("deepseek-r1", 1.0, 86_400.0, 16.0, 2.66, (18, 208, 2_219, 1_268), (285, 795, 3_533, 1_527)),
]


@pytest.mark.parametrize(("service", "scale", "end_s", "rate", "peak", "prompt", "output"), SERVICES)
def test_servegen_draws_the_rate_and_the_lengths_of_its_services(
    service: str,
    scale: float,
    end_s: float,
    rate: float,
    peak: float,
    prompt: tuple[int, ...],
    output: tuple[int, ...],
) -> None:
    whole = read("servegen", TRACES, services=(service,), scale=scale, end_s=end_s)
    counts = np.bincount(whole.arrival_us // 600_000_000)
    assert len(whole) / end_s / scale == pytest.approx(rate, rel=0.01)
    assert counts.max() / counts.mean() == pytest.approx(peak, rel=0.05)
    known = read("servegen", TRACES, services=(service,), scale=scale, end_s=end_s, unknown_lengths="drop")
    for column, wanted in ((known.prompt_tokens, prompt), (known.output_tokens, output)):
        assert quantiles(column, 0.1, 0.5, 0.9) == pytest.approx(wanted[:3], rel=0.08)
        assert column.mean() == pytest.approx(wanted[3], rel=0.04)


def test_servegen_knows_the_lengths_of_three_fifths_of_m_large() -> None:
    options = {"services": ("m-large",), "scale": 0.002, "end_s": 864_000.0}
    whole, known = (read("servegen", TRACES, unknown_lengths=how, **options) for how in ("pool", "drop"))
    assert len(known) / len(whole) == pytest.approx(0.61, abs=0.01)


def test_a_piece_of_a_day_is_the_same_piece_whatever_span_is_asked_for() -> None:
    options = {"services": ("deepseek-r1",)}
    day, hour = read("servegen", TRACES, **options), read("servegen", TRACES, start_s=36_000, end_s=39_600, **options)
    inside = (day.arrival_us >= 36_000_000_000) & (day.arrival_us < 39_600_000_000)
    assert np.array_equal(day.arrival_us[inside] - 36_000_000_000, hour.arrival_us)
    assert np.array_equal(day.prompt_tokens[inside], hour.prompt_tokens)


def test_the_gaps_of_clients_vary_as_their_source_says() -> None:
    day = read("servegen", TRACES, services=("deepseek-r1",))
    biggest = np.bincount(day.tenant).argmax()
    times = day.arrival_us[day.tenant == biggest]
    variations = []
    for window in range(144):
        gaps = np.diff(times[times // 600_000_000 == window])
        if len(gaps) > 100:
            variations.append(gaps.std() / gaps.mean())
    assert len(variations) > 50
    assert np.median(variations) > 0.5


def test_holes_of_m_small_are_kept_or_filled() -> None:
    options = {"services": ("m-small",), "scale": 0.005, "start_s": 799_200.0, "end_s": 801_600.0}
    filled = read("servegen", TRACES, holes="fill", **options)
    assert len(filled) > 100
    with pytest.raises(ConfigError, match="another span"):
        read("servegen", TRACES, **options)


def test_several_services_become_several_models() -> None:
    mixed = read("servegen", TRACES, scale=0.01, end_s=3_600.0)
    assert set(mixed.models) == {"m-large", "m-small", "deepseek-r1"}
    assert len(np.unique(mixed.model)) == 3
    assert all(name.startswith(("m-large-", "m-small-", "deepseek-r1-")) for name in mixed.tenants)


def test_clients_may_be_drawn() -> None:
    some = read("servegen", TRACES, services=("m-large",), client_count=10, end_s=7_200.0)
    assert len(some.tenants) == 10
    assert any("10 clients drawn" in note for note in some.notes)
