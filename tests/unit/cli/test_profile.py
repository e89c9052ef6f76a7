"""`forebay profile` from lengths to what is pasted into forebay.toml, and what it refuses."""

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from forebay.autoscaler.config import Config
from forebay.cli import main
from forebay.core.config import from_mapping

FAST = ("--requests", "300", "--seeds", "1")
LENGTHS = ("--prompt-lengths", "100,400,1500,3000", "--response-lengths", "100")


def profile(*arguments: object, name: str = "H100/Llama-3-8B/tp1") -> Result:
    return CliRunner().invoke(main, ["profile", "--profile", name, *FAST, *map(str, arguments)])


def test_what_is_printed_to_paste_is_a_model_that_the_autoscaler_takes() -> None:
    result = profile(*LENGTHS, "--model", "chat", "--pool", "chat-eu")
    assert result.exit_code == 0, result.output
    text = result.output[result.output.index("[[autoscaler.models]]") :]
    config = from_mapping(Config, tomllib.loads(text)["autoscaler"], "autoscaler")
    (model,) = config.models
    assert (model.name, model.pool_name, model.profile) == ("chat", "chat-eu", "H100/Llama-3-8B/tp1")
    assert min(model.prompt_tokens_per_s, model.response_tokens_per_s, model.tokens_per_s) > 0


def test_each_rate_is_found_by_the_traffic_that_presses_on_it() -> None:
    result = profile("--prompt-lengths", "50,400,3000,6000", "--response-lengths", "10,100,400,800", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    kinds = {one["kind"]: one for one in found["traffic"]}
    assert list(kinds) == ["prompt-heavy", "response-heavy", "all"]
    assert found["prompt_tokens_per_s"] == kinds["prompt-heavy"]["knee"]["prompt_tokens_per_s"]
    assert found["response_tokens_per_s"] == kinds["response-heavy"]["knee"]["response_tokens_per_s"]
    whole = kinds["all"]["knee"]
    assert found["tokens_per_s"] == pytest.approx(whole["prompt_tokens_per_s"] + whole["response_tokens_per_s"])
    assert found["prompt_tokens_per_s"] > whole["prompt_tokens_per_s"]
    assert found["response_tokens_per_s"] > whole["response_tokens_per_s"]


def test_with_a_heavy_share_of_1_all_rates_are_of_the_same_traffic() -> None:
    found = json.loads(profile(*LENGTHS, "--heavy", "1", "--json").stdout)
    assert [one["kind"] for one in found["traffic"]] == ["all"]
    assert found["tokens_per_s"] == pytest.approx(found["prompt_tokens_per_s"] + found["response_tokens_per_s"])


def test_a_trace_is_read_and_its_own_arrivals_may_be_taken(tmp_path: Path) -> None:
    rows = "".join(f"2023-11-16 18:00:{index % 60:02d}.{index // 60:02d},300,80\n" for index in range(0, 60))
    trace = tmp_path / "azure.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    found = json.loads(profile("--trace", trace, "--arrivals", "trace", "--json").stdout)
    assert (found["arrivals"], found["traffic"][-1]["prompt_mean"]) == ("trace", 300)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*LENGTHS, "--ttft", "0", "--itl", "0"), "without a promise"),
        (("--prompt-lengths", "100"), "give both"),
        (("--prompt-lengths", "3,2,1,0", "--response-lengths", "5"), "p10,p50,p90,p97 that do not decrease"),
        (("--prompt-lengths", "many", "--response-lengths", "5"), "no number"),
        ((*LENGTHS, "--arrivals", "trace"), "needs a --trace"),
        ((*LENGTHS, "--ttft", "0.001"), "ttft breaks first"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(arguments: tuple[str, ...], said: str) -> None:
    result = profile(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_an_unknown_profile_names_those_that_are_known() -> None:
    result = profile(*LENGTHS, name="H900/Llama-3-8B/tp1")
    assert result.exit_code == 2
    assert "H100" in result.output
