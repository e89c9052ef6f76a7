"""What no run can have is refused before anything runs, with the line and the key."""

from pathlib import Path

import pytest

from forebay.cli.scenario import parse_fleet, parse_policy
from forebay.core.errors import ConfigError
from forebay.simulator.experiment import read
from forebay.simulator.store import REQUESTS, check_tables

GOOD = """seeds = [1]
loads = [1.0]
[trace]
generator = "poisson"
[[groups]]
model = "m"
profile = "A100-80G/Llama-3-8B/tp1"
[[policies]]
name = "a"
"""


def complaint(tmp_path: Path, text: str) -> str:
    path = tmp_path / "e.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read(path)
    return caught.value.message.removeprefix(str(path))


@pytest.mark.parametrize(
    "key",
    [
        "[engine]\nmax_seqs = 0",
        "[engine]\nblock_size = 0",
        "[engine]\nkv_tokens = -1",
        "[engine]\nfrontend_ms = nan",
        "[network]\nlocal_ms = -1.0",
        "[network]\ndecision_ms = inf",
        "[start]\nwarm_s = inf",
        "[start]\nfailure_share = 2.0",
        "[observation]\nscrape_s = 0",
        "[observation]\ndelay_s = -1",
        "[spot]\nreclaims_per_hour = -1",
        "[clients]\nattempts_max = 0",
        "[[faults]]\nat_s = -1.0",
        "[[faults]]\nplace = -1",
        "[[faults]]\nfactor = nan",
        "[[knobs]]\nplace = -7",
    ],
)
def test_a_number_that_cannot_be_is_refused_with_its_key_and_line(key: str, tmp_path: Path) -> None:
    said = complaint(tmp_path, GOOD + key + "\n")
    assert said.startswith(":11: ")
    assert key.split("\n")[1].split(" = ")[0] in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds = [1]", "seeds = 1", ":1: seeds must be a list, not int"),
        ("[[groups]]", "[groups]", ":5: groups must be a list, not dict"),
        ("[1.0]", "[" + "9" * 400 + "]", ":2: loads[0] is too large"),
        ("[1]", "[" + "9" * 5000 + "]", ": not TOML: "),
        ("[1.0]", "[1.0000001, 1.0000002]", ":2: the experiment: loads must differ"),
        ("seeds", 'name = "../up"\nseeds', ":1: the experiment: name is '../up'"),
        ('[trace]\ngenerator = "poisson"\n', "", ": there is no [trace]"),
        ('"m"', '"m"\ninstances_max = 99999999999', ":7: [groups[0]]: group m: instances_max must be at most"),
    ],
)
def test_what_is_no_experiment_is_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert complaint(tmp_path, GOOD.replace(old, new, 1)).startswith(said)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    path.write_text(GOOD, encoding="utf-8-sig")
    assert read(path).seeds == (1,)


def test_a_fleet_of_billions_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 100,000"):
        parse_fleet("H100/Llama-3-8B/tp1 x99999999999")


def test_a_kind_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="router is given twice"):
        parse_policy("router=round_robin,router=llm_d")


def test_a_damaged_table_is_no_finished_run(tmp_path: Path) -> None:
    (tmp_path / REQUESTS).write_bytes(b"x")
    with pytest.raises(ConfigError, match=REQUESTS):
        check_tables(tmp_path)
