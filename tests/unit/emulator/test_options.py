"""Texts of the command line become configuration, and bad ones say what is wrong."""

import pytest

from forebay.core.errors import ConfigError
from forebay.emulator.config import ColdStart, ModelSpec
from forebay.emulator.options import (
    UNMEASURED,
    parse_cold_start,
    parse_model,
    parse_pairs,
    with_settings,
)


def test_a_model_is_a_name_with_a_profile_and_the_settings_of_all() -> None:
    assert parse_model("m", {}) == ModelSpec("m")
    assert parse_model("m=H100/Llama-3-8B", {"max_seqs": "7", "no_evict": "true"}) == ModelSpec(
        "m", "H100/Llama-3-8B", max_seqs=7, no_evict=True
    )


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"max_seq": "7"}, "unknown setting 'max_seq'"),
        ({"max_seqs": "seven"}, "invalid literal"),
        ({"no_evict": "maybe"}, "neither true nor false"),
        ({"kv_tokens": "-1"}, "must not be negative"),
    ],
)
def test_a_bad_setting_names_itself(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_model("m", settings)
    with pytest.raises(ValueError, match=complaint):
        with_settings(ModelSpec("m"), settings)


def test_pairs_need_a_key_and_an_equals_sign() -> None:
    assert parse_pairs(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(ConfigError, match="'a' is not KEY=VALUE"):
        parse_pairs(["a"])


def test_a_cold_start_is_a_list_of_phases_or_auto() -> None:
    assert parse_cold_start("") == ColdStart()
    assert parse_cold_start("provisioning=30,weights=8.5") == ColdStart(provisioning_s=30, weights_s=8.5)
    assert parse_cold_start("weights=auto").weights_s < 0
    assert parse_cold_start("auto") == UNMEASURED
    assert UNMEASURED.provisioning_s + UNMEASURED.runtime_s + UNMEASURED.load_s(16 * 10**9) == 53


@pytest.mark.parametrize("text", ["boot=3", "image", "image=long", "image=-3"])
def test_a_bad_cold_start_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_cold_start(text)
