"""Every format is read strictly: what is good becomes a workload, what is not is an error that names its line."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.core.errors import ConfigError
from forebay.core.values import SloClass
from forebay.simulator.traces import FORMATS, fast, guess, read
from forebay.simulator.traces.guess import HEADERS
from tests.unit.simulator.traces.kit import GOOD, LINES, TABLES, assert_same, written

TOKENS = {"mooncake": ([1100, 512, 1024], [500, 2, 9]), "requestlog": ([10, 20, 30], [5, 6, 7])}
PLAIN = ([374, 396, 879], [44, 109, 55])
BURST = ([472, 1087, 417], [18, 230, 276])


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_becomes_a_workload(name: str, tmp_path: Path) -> None:
    workload = read(name, written(tmp_path, GOOD[name]))
    prompts, outputs = TOKENS.get(name, BURST if name == "burstgpt" else PLAIN)
    assert (workload.prompt_tokens.tolist(), workload.output_tokens.tolist()) == (prompts, outputs)
    assert workload.arrival_us[0] == 0
    assert (np.diff(workload.arrival_us) >= 0).all()


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_format_is_guessed_from_the_first_line(name: str, ending: str, tmp_path: Path) -> None:
    assert guess(written(tmp_path, GOOD[name], f"any{ending}")) == name


@pytest.mark.parametrize("name", GOOD)
def test_compressed_files_with_carriage_returns_and_a_mark_read_the_same(name: str, tmp_path: Path) -> None:
    plain = read(name, written(tmp_path, GOOD[name]))
    other = read(name, written(tmp_path, "\ufeff" + GOOD[name].replace("\n", "\r\n"), "other.gz"))
    assert_same(plain, other)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("text", ["", "\n", "a,b,c\n", "nonsense\n", "{}\n", "[]\n", "[" * 100_000])
def test_a_file_of_nothing_or_of_something_else_is_an_error_with_its_name(name: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trace\.csv"):
        read(name, written(tmp_path, text))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_rows_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no rows"):
        read(name, written(tmp_path, GOOD[name].splitlines()[0] + "\n"))


@pytest.mark.parametrize("name", GOOD)
def test_text_that_is_not_utf8_is_an_error_with_its_line(name: str, tmp_path: Path) -> None:
    lines = GOOD[name].encode().splitlines(keepends=True)
    path = tmp_path / "trace.csv"
    path.write_bytes(b"".join(lines[:-1]) + b"\xff" + lines[-1])
    with pytest.raises(ConfigError, match=f":{len(lines)}: not UTF-8"):
        read(name, path)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("cut", [6, 20])
def test_a_truncated_gz_is_an_error_with_the_line_it_got_to(name: str, cut: int, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(GOOD[name].encode())[:-cut])
    with pytest.raises(ConfigError, match="cannot read"):
        read(name, path)


@pytest.mark.parametrize("name", GOOD)
def test_a_damaged_gz_is_an_error(name: str, tmp_path: Path) -> None:
    data = bytearray(gzip.compress(GOOD[name].encode()))
    data[20] ^= 0xFF
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(bytes(data))
    with pytest.raises(ConfigError, match=r"trace\.csv\.gz"):
        read(name, path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_not_there_is_an_error_with_its_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        read(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", GOOD)
def test_time_that_goes_back_is_an_error_unless_rows_may_be_sorted(name: str, tmp_path: Path) -> None:
    lines = GOOD[name].splitlines(keepends=True)
    path = written(tmp_path, "".join([*lines[:-2], lines[-1], lines[-2]]))
    with pytest.raises(ConfigError, match=f":{len(lines)}: time goes back"):
        read(name, path)
    assert_same(read(name, path, sort=True, tick_s=0.0), read(name, written(tmp_path, GOOD[name], "x"), tick_s=0.0))


BAD = [
    ("azure", "yesterday,1,2", "TIMESTAMP 'yesterday' is not a time"),
    ("azure", "2023-11-16 18:15:51,1", "2 fields where 3 are needed"),
    ("azure", "", "0 fields where 3 are needed"),
    ("azure", "2023-11-16 18:15:51,1,2,3", "4 fields where 3 are needed"),
    ("azure", "2023-11-16 18:15:51,-1,2", "ContextTokens '-1' is not a count"),
    ("azure", "2023-11-16 18:15:51,1,2.5", "GeneratedTokens '2.5' is not a count"),
    ("azure", "2023-11-16 18:15:51,1,nan", "is not a count"),
    ("azure", "2023-11-16 18:15:51,1,", "is not a count"),
    ("azure", "2023-11-16 18:15:51,1,1e3", "is not a count"),
    ("azure", "2023-11-16 18:15:51,1,0x10", "is not a count"),
    ("azure", "2023-11-16 18:15:51,1, 5", "is not a count"),
    ("azure", "2023-11-16 18:15:51,1,٣", "is not a count"),
    ("azure", "2023-11-16 18:15:51,1,99999999999999999999", "is not a count"),
    ("azure", '2023-11-16 18:15:51,1,"2', "not comma-separated values"),
    ("burstgpt", "nan,ChatGPT,1,2,3,x", "Timestamp 'nan' is not a number of seconds"),
    ("burstgpt", "inf,ChatGPT,1,2,3,x", "not a number of seconds"),
    ("burstgpt", "-5,ChatGPT,1,2,3,x", "not a number of seconds"),
    ("burstgpt", "500,,1,2,3,x", "Model is empty"),
    ("vidur", "1e400,1,2", "not a number of seconds"),
    ("splitwise", "3,1,0,9,1,1,1", "request_type must be 2"),
    ("splitwise", "3,2,0,9,4,1,1", "batch_size must be 1"),
    ("sageserve", "3,-1,a,2,b,10,1,912,A,prod,-1,9,1,1,1", "regions must be digits"),
    ("sageserve", "3,-1,a,2,b,10,1,012,A,beta,-1,9,1,1,1", "workload_type must be prod or dev"),
    ("mooncake", "not json", "not JSON"),
    ("mooncake", "", "not JSON"),
    ("mooncake", "[]", "not a JSON object"),
    ("mooncake", '{"timestamp": 3000, "input_length": 1, "output_length": 1}', "hash_ids is missing"),
    ("mooncake", '{"timestamp": NaN, "input_length": 1, "output_length": 1, "hash_ids": []}', "timestamp must be"),
    ("mooncake", '{"timestamp": -1, "input_length": 1, "output_length": 1, "hash_ids": []}', "timestamp must be"),
    ("mooncake", '{"timestamp": 3000, "input_length": true, "output_length": 1, "hash_ids": []}', "input_length must"),
    ("mooncake", '{"timestamp": 3000, "input_length": 1, "output_length": 1.5, "hash_ids": []}', "output_length must"),
    ("mooncake", '{"timestamp": 3000, "input_length": 1, "output_length": 1, "hash_ids": ["a"]}', "hash_ids must be"),
    ("mooncake", '{"timestamp": 3000, "input_length": 1, "output_length": 1, "hash_ids": [1, 2]}', "at most one id"),
    ("requestlog", '{"model": "", "arrival_us": 1700000003000000, "prompt_tokens": 1, "response_tokens": 1}', "model"),
    ("requestlog", '{"model": "a", "arrival_us": 1.5, "prompt_tokens": 1, "response_tokens": 1}', "arrival_us must"),
    (
        "requestlog",
        '{"model": "a", "arrival_us": 1700000003000000, "prompt_tokens": 1, "response_tokens": 1, "status": "fine"}',
        "status must be one of ok, failed",
    ),
]


@pytest.mark.parametrize(("name", "row", "what"), BAD)
def test_a_bad_row_is_an_error_with_its_line(name: str, row: str, what: str, tmp_path: Path) -> None:
    lines = GOOD[name].splitlines()
    path = written(tmp_path, "\n".join([*lines[:-1], row, lines[-1]]) + "\n")
    with pytest.raises(ConfigError, match=what) as failure:
        read(name, path)
    assert failure.value.message.startswith(f"{path}:{len(lines)}: ")


@pytest.mark.parametrize("name", [name for name in GOOD if name != "burstgpt"])
def test_an_answer_of_no_tokens_counts_as_one_or_is_left_out(name: str, tmp_path: Path) -> None:
    text = _without_answer(name)
    one, left_out = (read(name, written(tmp_path, text), zero_output=how) for how in ("one", "drop"))
    assert (len(one), one.output_tokens[1]) == (3, 1)
    assert len(left_out) == 2
    assert any("1 answers of no tokens counted as one token" in note for note in one.notes)
    assert any("1 answers of no tokens left out" in note for note in left_out.notes)


def test_failed_requests_of_burstgpt_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD["burstgpt"].replace(",230,", ",0,"))
    assert len(read("burstgpt", path)) == 2
    assert read("burstgpt", path, zero_output="one").output_tokens.tolist() == [18, 1, 276]


def _without_answer(name: str) -> str:
    return {
        "mooncake": lambda text: text.replace('"output_length": 2,', '"output_length": 0,'),
        "requestlog": lambda text: text.replace('"response_tokens": 6', '"response_tokens": 0'),
    }.get(name, lambda text: text.replace("109", "0"))(GOOD[name])


def test_a_prompt_of_no_tokens_counts_as_one(tmp_path: Path) -> None:
    workload = read("azure", written(tmp_path, GOOD["azure"].replace(",374,", ",0,")))
    assert workload.prompt_tokens[0] == 1
    assert workload.notes == ("trace.csv: 1 prompts of no tokens counted as one token",)


def test_both_forms_of_azures_times_are_read(tmp_path: Path) -> None:
    old = read("azure", written(tmp_path, GOOD["azure"]))
    new = "2024-05-10 00:00:00.009930+00:00,1,2\n2024-05-10 00:00:01+00:00,3,4\n"
    rows = read("azure", written(tmp_path, GOOD["azure"].splitlines()[0] + "\n" + new))
    assert old.arrival_us.tolist() == [0, 4_314_579, 4_541_877]
    assert rows.arrival_us.tolist() == [0, 990_070]


def test_mooncake_rows_are_spread_within_their_tick_by_seed(tmp_path: Path) -> None:
    row = '{"timestamp": %d, "input_length": 9, "output_length": 1, "hash_ids": [0]}\n'
    path = written(tmp_path, "".join(row % (3_000 * (number // 200)) for number in range(2_000)))
    one, other, still = (read("mooncake", path, **options) for options in ({}, {"seed": 1}, {"tick_s": 0}))
    assert (still.arrival_us // 3_000_000 == np.arange(2_000) // 200).all()
    assert ((one.arrival_us + 60_000) // 3_000_000 >= still.arrival_us // 3_000_000).all()
    assert not np.array_equal(one.arrival_us, other.arrival_us)
    gaps = np.diff(one.arrival_us)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.1)


def test_mooncake_rows_are_never_spread_beyond_the_next_stamp(tmp_path: Path) -> None:
    row = '{"timestamp": %d, "input_length": %d, "output_length": 1, "hash_ids": [0]}\n'
    path = written(tmp_path, "".join(row % (100 * (number // 50), number // 50 + 1) for number in range(500)))
    for seed in range(5):
        workload = read("mooncake", path, seed=seed)
        start = workload.arrival_us - workload.arrival_us[workload.prompt_tokens == 1].min()
        assert (np.diff([start[workload.prompt_tokens == one].min() for one in range(1, 11)]) > 0).all()
        assert start[workload.prompt_tokens < 10].max() <= 900_000


def test_mooncake_keeps_the_blocks_of_each_row(tmp_path: Path) -> None:
    workload = read("mooncake", written(tmp_path, GOOD["mooncake"]))
    assert (workload.block_start.tolist(), workload.blocks.tolist()) == ([0, 3, 4, 6], [0, 1, 2, 0, 0, 3])
    assert workload.block_tokens == 512


def test_burstgpt_keeps_models_kinds_and_sessions(tmp_path: Path) -> None:
    header = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    rows = (
        "1,a,0.5,ChatGPT,1,2,3,Conversation log\n2,,0.5,GPT-4,1,2,3,API log\n3,a,0.5,ChatGPT,1,2,3,Conversation log\n"
    )
    workload = read("burstgpt", written(tmp_path, header + rows))
    assert workload.models == ("ChatGPT", "GPT-4")
    kinds = ["Conversation log"]
    assert [workload.applications[one] for one in workload.application] == ["Conversation log", "API log", *kinds]
    assert workload.program.tolist() == [0, -1, 0]


def test_sageserve_keeps_regions_classes_and_deadlines(tmp_path: Path) -> None:
    workload = read("sageserve", written(tmp_path, GOOD["sageserve"]))
    assert [workload.regions[one] for one in workload.region] == ["westus", "eastus", "centralus"]
    assert workload.slo_class.tolist() == [SloClass.INTERACTIVE_FAST, SloClass.DEFERRED, SloClass.INTERACTIVE_FAST]
    assert workload.deadline_us.tolist() == [0, 43_200_000_000, 0]
    assert [workload.tenants[one] for one in workload.tenant] == ["word", "excel", "word"]
    assert [workload.applications[one] for one in workload.application] == ["rag", "chat", "rag"]
    assert (workload.models, workload.model.tolist()) == (("A", "B"), [0, 1, 0])


@pytest.mark.parametrize(
    "options", [{"modle": "a"}, {"zero_output": "two"}, {"seed": -1}, {"sort": "yes"}, {"tick_s": -1}]
)
def test_an_option_that_is_not_known_or_cannot_be_is_an_error(options: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read("azure", written(tmp_path, GOOD["azure"]), **options)


def test_a_format_that_is_not_known_is_an_error_that_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="azure, burstgpt, mooncake"):
        read("azur", tmp_path)


def test_a_file_like_no_format_cannot_be_guessed(tmp_path: Path) -> None:
    for text in ("", "a,b\n", "{}\n", "[1]\n", "\x00\n"):
        with pytest.raises(ConfigError, match="cannot tell"):
            guess(written(tmp_path, text))


@pytest.mark.parametrize("name", TABLES)
def test_a_large_table_reads_the_same_as_a_small_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, GOOD[name])
    slow = read(name, path)
    monkeypatch.setattr(fast, "BYTES_MIN", 0)
    assert fast.read_fast(path, HEADERS[name]) is not None
    assert_same(slow, read(name, path))


def _result(path: Path) -> object:
    try:
        workload = read("azure", path, sort=True)
    except ConfigError as error:
        return error.message
    return [column.tolist() for column in (workload.arrival_us, workload.prompt_tokens, workload.output_tokens)]


FIELDS = st.sampled_from(
    [
        "1",
        "0",
        "007",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "nan",
        "",
        '"7"',
        '"7',
        "0x1",
        "1_0",
        "999999999",
        "٣",
        "\x00",
    ]
)
STAMPS = st.sampled_from(
    [
        *(
            "2024-05-10 00:00:00.009930+00:00",
            "2024-05-10 00:00:01+00:00",
            "2024-05-10 00:00:02",
            "2024-05-10",
            "",
            "x",
        ),
        *("2024-05-10 00:00:60", "2024-05-10T00:00:01", "2024-05-10 00:00:01.1234567", "2024-13-10 00:00:00"),
        *("1600-05-10 00:00:01", "9999-05-10 00:00:01", "2024-05-10 00:00:01 +00:00", "2024-05-10 00:00:01+02:00"),
    ]
)
ROWS = st.lists(st.one_of(st.tuples(STAMPS, FIELDS, FIELDS), st.tuples(STAMPS, FIELDS)), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120, deadline=None)
@given(rows=ROWS, ending=st.sampled_from(["", "\n", "\r\n", "\n\n"]))
def test_whatever_stands_in_a_table_both_ways_of_reading_say_the_same(
    rows: list[tuple[str, ...]], ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(",".join(row) for row in rows) + ending
    path = written(tmp_path, text)
    monkeypatch.setattr(fast, "BYTES_MIN", 1 << 40)
    slow = _result(path)
    monkeypatch.setattr(fast, "BYTES_MIN", 0)
    assert _result(path) == slow


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(data=st.data(), name=st.sampled_from([*GOOD]))
def test_a_damaged_file_is_read_or_refused_but_never_a_bug(data: st.DataObject, name: str, tmp_path: Path) -> None:
    raw = bytearray(GOOD[name].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "trace.csv"
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    assert str(path) in (_refusal(name, path) or str(path))


def _refusal(name: str, path: Path) -> str:
    try:
        read(name, path)
    except ConfigError as error:
        return error.message
    return ""


def test_lines_are_read_by_all_but_tables(tmp_path: Path) -> None:
    assert set(LINES) | set(TABLES) == set(GOOD) == set(FORMATS) - {"servegen", "workload"}


def test_a_return_inside_the_header_is_an_error_of_line_one(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"TIMESTAMP,Con\rtextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,1,2\n")
    with pytest.raises(ConfigError, match=r"trace\.csv:1: "):
        read("azure", path)
