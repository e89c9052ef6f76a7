"""ServeGen's files are checked, and what is drawn from them keeps their counts and means."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay.core.errors import ConfigError
from forebay.simulator.traces import guess, read

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

RATES = {
    "client": [7, 7, 9, 9],
    "t": [0, 600, 0, 600],
    "rate": [0.5, 0.0, 2.0, 1.0],
    "cv": [1.0, 0.0, 3.0, 0.1],
    "dist": ["Weibull", "", "Gamma", "Gamma"],
    "p1": [0.8, 0.0, 0.01, 100.0],
    "p2": [1.0, 0.0, 1.0, 1.0],
}
STRAIGHT = [float(2 * number) for number in range(51)]
LENGTHS = {
    "client": [9, 7],
    "t": [0, 0],
    "input_tokens_q": [[1_000 + one for one in STRAIGHT], None],
    "output_tokens_q": [[*STRAIGHT[:-1], 100_000.0], None],
    "input_tokens_mean": [1_050.0, None],
    "output_tokens_mean": [100.0, None],
}


def written(
    folder: Path, rates: Mapping[str, Any] = RATES, lengths: Mapping[str, Any] | None = LENGTHS, name: str = "tiny"
) -> Path:
    path = folder / f"servegen_{name}_rates.parquet"
    parquet.write_table(pyarrow.table(dict(rates)), path)
    if lengths is not None:
        parquet.write_table(pyarrow.table(dict(lengths)), folder / f"servegen_{name}_lengths_q51.parquet")
    return path


def test_every_client_sends_in_every_window_as_many_as_were_counted(tmp_path: Path) -> None:
    workload = read("servegen", written(tmp_path))
    window = workload.arrival_us // 600_000_000
    sent = {(workload.tenants[tenant], at): 0 for tenant in (0, 1) for at in (0, 1)}
    for tenant, at in zip(workload.tenant, window, strict=True):
        sent[workload.tenants[tenant], at] += 1
    assert sent == {("tiny-7", 0): 300, ("tiny-7", 1): 0, ("tiny-9", 0): 1_200, ("tiny-9", 1): 600}


def test_gaps_have_the_variation_of_their_distribution(tmp_path: Path) -> None:
    workload = read("servegen", written(tmp_path))
    even = workload.arrival_us[workload.arrival_us >= 600_000_000]
    burst = workload.arrival_us[(workload.tenant == 1) & (workload.arrival_us < 600_000_000)]
    for times, low, high in ((even, 0.08, 0.12), (burst, 5.0, 15.0)):
        gaps = np.diff(times)
        assert low < gaps.std() / gaps.mean() < high


def test_half_the_scale_is_half_the_requests(tmp_path: Path) -> None:
    workload = read("servegen", written(tmp_path), scale=0.501)
    assert len(workload) == pytest.approx(2_100 * 0.501, abs=3)


def test_lengths_keep_the_mean_though_the_longest_is_far_out(tmp_path: Path) -> None:
    workload = read("servegen", written(tmp_path), scale=100.0)
    assert workload.output_tokens.mean() == pytest.approx(100.0, rel=0.1)
    assert workload.output_tokens.max() > 10_000
    assert workload.prompt_tokens.mean() == pytest.approx(1_050.0, rel=0.01)
    assert (workload.prompt_tokens.min(), workload.prompt_tokens.max()) == (1_000, 1_100)


def test_clients_without_lengths_borrow_them_or_are_left_out(tmp_path: Path) -> None:
    pooled, known = (read("servegen", written(tmp_path), unknown_lengths=how) for how in ("pool", "drop"))
    assert (len(pooled), len(known)) == (2_100, 1_800)
    assert any("14% of requests are of clients without lengths" in note for note in pooled.notes)


def test_a_window_in_which_nobody_sent_anything_is_kept_or_filled(tmp_path: Path) -> None:
    rates = {**RATES, "rate": [0.5, 0.0, 2.0, 0.0], "dist": ["Weibull", "", "Gamma", ""]}
    kept, filled = (read("servegen", written(tmp_path, rates), holes=how) for how in ("keep", "fill"))
    assert (len(kept), len(filled)) == (1_500, 3_000)


def test_the_span_counts_from_its_start(tmp_path: Path) -> None:
    workload = read("servegen", written(tmp_path), start_s=300.0, end_s=900.0)
    assert 0 <= workload.arrival_us[0] < workload.arrival_us[-1] < 600_000_000


def test_a_folder_gives_all_its_services(tmp_path: Path) -> None:
    written(tmp_path)
    written(tmp_path, name="other")
    assert guess(tmp_path) == guess(tmp_path / "servegen_tiny_rates.parquet") == "servegen"
    assert read("servegen", tmp_path).models == ("other", "tiny")
    assert read("servegen", tmp_path, services=["tiny"]).models == ("tiny",)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"rate": [0.5, 0.0, -2.0, 1.0]}, "row 2: rate"),
        ({"rate": [0.5, 0.0, float("nan"), 1.0]}, "row 2: rate"),
        ({"rate": [0.5, 0.0, float("inf"), 1.0]}, "row 2: rate"),
        ({"dist": ["Weibull", "", "Pareto", "Gamma"]}, "row 2: dist"),
        ({"p1": [0.8, 0.0, 0.0, 100.0]}, "row 2: dist"),
        ({"t": [0, 600, 0, 601]}, "row 3: t must be"),
        ({"t": [0, 600, 0, 0]}, "two rows"),
        ({"rate": [0.0, 0.0, 0.0, 0.0]}, "take another span"),
    ],
)
def test_bad_rates_are_an_error_with_their_row(change: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=what):
        read("servegen", written(tmp_path, {**RATES, **change}))


@pytest.mark.parametrize(
    "change",
    [
        {"input_tokens_q": [STRAIGHT[:-1], None]},
        {"input_tokens_q": [STRAIGHT[::-1], None]},
        {"input_tokens_q": [[float("nan")] * 51, None]},
        {"input_tokens_q": [None, None]},
    ],
)
def test_bad_sketches_are_an_error(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lengths_q51"):
        read("servegen", written(tmp_path, lengths={**LENGTHS, **change}))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="file of lengths"):
        read("servegen", written(tmp_path, lengths=None))
    with pytest.raises(ConfigError, match="no rates of large"):
        read("servegen", tmp_path, services=["large"])
    with pytest.raises(ConfigError, match="cannot read the columns"):
        read("servegen", written(tmp_path, {name: RATES[name] for name in RATES if name != "rate"}))


def test_more_requests_than_memory_should_hold_are_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lower scale"):
        read("servegen", written(tmp_path), rows_max=1_000)
