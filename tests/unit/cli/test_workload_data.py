"""Traffic of anybody's as series, and every bad row named by its line."""

import json
from pathlib import Path

import numpy as np
import pytest

from forebay.cli.workload_data import NamedSeries, Reading, read_series
from forebay.core.errors import ConfigError
from forebay.core.units import US_PER_S

HEADER = "start_time,requests,prompt_tokens,response_tokens,model,region,class\n"
MINUTE = Reading(60)


def write(path: Path, text: str, name: str = "points.csv") -> list[Path]:
    (path / name).write_text(text)
    return [path / name]


def only(found: list[NamedSeries]) -> NamedSeries:
    (one,) = found
    return one


def test_points_in_csv_become_a_series_with_gaps(tmp_path: Path) -> None:
    text = "start_time,requests\n" + "".join(f"{60 * minute},{minute}\n" for minute in (10, 11, 13))
    one = only(read_series(write(tmp_path, text), MINUTE))
    assert (one.name, one.series.start_us, one.series.window_us) == ("all", 600 * US_PER_S, 60 * US_PER_S)
    assert np.array_equal(one.series.values[:, 0], [10, 11, np.nan, 13], equal_nan=True)
    assert one.series.values[0, 1:].tolist() == [0, 0]


def test_windows_that_are_not_there_may_be_zeros(tmp_path: Path) -> None:
    files = write(tmp_path, "start_time,requests\n0,1\n180,4\n")
    assert only(read_series(files, Reading(60, absent="zero"))).series.values[:, 0].tolist() == [1, 0, 0, 4]


def test_finer_points_are_added_up(tmp_path: Path) -> None:
    files = write(tmp_path, "start_time,requests,prompt_tokens\n" + "".join(f"{10 * n},2,5\n" for n in range(12)))
    assert only(read_series(files, MINUTE)).series.values.tolist() == [[12, 30, 0]] * 2


def test_models_regions_and_classes_are_told_apart_or_added_up(tmp_path: Path) -> None:
    rows = "0,1,2,3,a,eu,deferred\n0,10,20,30,a,us,deferred\n0,100,200,300,b,eu,interactive_fast\n"
    files = write(tmp_path, HEADER + rows)
    names = [one.name for one in read_series(files, MINUTE)]
    assert names == ["a/eu/deferred", "a/us/deferred", "b/eu/interactive_fast"]
    by_model = read_series(files, Reading(60, by=("model",)))
    assert [(one.name, one.series.values[0, 0]) for one in by_model] == [("a", 11), ("b", 100)]
    assert only(read_series(files, Reading(60, by=()))).series.values[0].tolist() == [111, 222, 333]


def test_json_lines_and_parquet_say_the_same(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    points = [{"start_time": f"2026-01-31T00:0{n}:00Z", "requests": n + 1, "model": "m"} for n in range(4)]
    lines = write(tmp_path, "".join(json.dumps(one) + "\n" for one in points), "points.jsonl")
    parquet.write_table(pyarrow.Table.from_pylist(points), tmp_path / "points.parquet")
    first, second = only(read_series(lines, MINUTE)), only(read_series([tmp_path / "points.parquet"], MINUTE))
    assert (first.name, second.name) == ("m", "m")
    assert first.series.values.tolist() == second.series.values.tolist()
    assert first.series.start_us == second.series.start_us == 1_769_817_600 * US_PER_S


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("x,1", "points.csv:3: start_time must be seconds since 1970"),
        ("-60,1", "points.csv:3: start_time"),
        ("1e300,1", "points.csv:3: start_time"),
        ("60,nan", "points.csv:3: requests must be a finite number"),
        ("60,inf", "points.csv:3: requests"),
        ("60,-1", "points.csv:3: requests must be a finite number that is not negative; it is not '-1'"),
        ("60,", "points.csv:3: requests"),
        ("60,1,2", "points.csv:3: 3 fields where 2 are needed"),
        ('60,"1', "points.csv"),
        ("0,1", "points.csv:3: a second point of all at this time"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_series(write(tmp_path, f"start_time,requests\n0,1\n{row}\n"), MINUTE)
    assert complaint in caught.value.message


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"start_time": 60, "requests": true}', "points.jsonl:2: requests"),
        ('{"start_time": 60}', "points.jsonl:2: requests must be a finite number that is not negative; it is missing"),
        ('{"start_time": 60, "requests": 1, "class": "vip"}', "points.jsonl:2: class must be one of interactive_fast"),
        ("[]", "points.jsonl:2: not a JSON object"),
        ("{", "points.jsonl:2: not JSON"),
    ],
)
def test_a_bad_line_of_json_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    text = f'{{"start_time": 0, "requests": 1}}\n{line}\n'
    with pytest.raises(ConfigError) as caught:
        read_series(write(tmp_path, text, "points.jsonl"), MINUTE)
    assert complaint in caught.value.message


def test_times_far_apart_are_a_slip(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="windows, at most"):
        read_series(write(tmp_path, "start_time,requests\n0,1\n1700000000,1\n"), MINUTE)


def test_a_file_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot tell the format"):
        read_series(write(tmp_path, "a,b\n1,2\n"), MINUTE)
    with pytest.raises(ConfigError, match="no series"):
        read_series(write(tmp_path, "start_time,requests\n"), MINUTE)


def test_a_trace_is_counted_in_whole_windows(tmp_path: Path) -> None:
    log = [
        {"model": "m", "arrival_us": round(at * 1e6), "prompt_tokens": 10, "response_tokens": 5, "region": "eu"}
        for at in (60, 90, 121, 260, 290, 310)
    ]
    files = write(tmp_path, "".join(json.dumps(one) + "\n" for one in log), "requests.jsonl")
    one = only(read_series(files, Reading(60, by=("model", "region"))))
    assert one.name == "m/eu"
    assert one.series.values.tolist() == [[2, 20, 10], [1, 10, 5], [0, 0, 0], [2, 20, 10]]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"window_s": 0}, "window"),
        ({"by": ("tenant",)}, "tenant"),
        ({"absent": "maybe"}, "absent"),
        ({"format": "xml"}, "xml"),
    ],
)
def test_a_senseless_way_of_reading_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Reading(**changes)  # type: ignore[arg-type]
