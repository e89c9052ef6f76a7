"""[metrics.page] is read strictly, as its page shows it."""

import re
import tomllib
from pathlib import Path

import pytest

from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.core.values import SloClass
from forebay.metrics.config import Config
from forebay.metrics.page.config import PageConfig

PAGE = Path(__file__).resolve().parents[4] / "docs" / "page" / "README.md"


def test_the_settings_that_the_page_about_it_shows_are_the_defaults() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.S)
    config = from_mapping(Config, tomllib.loads(shown)["metrics"], "metrics")
    assert config.page == PageConfig()


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="ttft_fast"):
        from_mapping(Config, {"page": {"ttft_fast": 1.0}}, "metrics")


def test_promises_follow_the_settings() -> None:
    promises = PageConfig(ttft_interactive_fast_s=0.5, tpot_interactive_ms=50, answer_deferred_s=60).promises()
    assert (promises[SloClass.INTERACTIVE_FAST].ttft_s, promises[SloClass.INTERACTIVE_FAST].tpot_ms) == (0.5, 50)
    assert promises[SloClass.INTERACTIVE_NORMAL].ttft_s == 60.0
    assert promises[SloClass.DEFERRED].e2e_s == 60
