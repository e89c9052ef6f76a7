"""What a world may have is read from an experiment's file, and told where it cannot be."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from forebay.core.errors import ConfigError
from forebay.simulator.config import Knob, Prefill, StudentConfig
from forebay.simulator.experiment import read
from forebay.simulator.profiles import profile_of, save

PROFILE = "A100-80G/Llama-3-8B/tp1"
WORLD = f"""\
[trace]
generator = "poisson"
options = {{ rate_per_s = 2.0, duration_s = 60.0 }}

[[groups]]
model = "m"
profile = "{PROFILE}"
busy_watts = 400
idle_watts = 60

[[prefill]]
model = "m"
profile = "{PROFILE}"
link_gb_per_s = 12.5

[engine]
order = "preemptive"
preemption = "swap"
batch_delay_us = 500

[network]
decision_ms = 0.4

[[knobs]]
at_s = 30
frequency = 0.8

[student]
share = 0.1

[[policies]]
name = "plain"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "e.toml"
    path.write_text(text)
    return path


def test_every_table_of_the_world_is_read(tmp_path: Path) -> None:
    world = read(written(tmp_path, WORLD)).world
    assert world.prefill == (Prefill("m", PROFILE, 1, 12.5),)
    assert world.knobs == (Knob(at_s=30.0, frequency=0.8),)
    assert world.student == StudentConfig(share=0.1)
    assert (world.engine.order, world.engine.preemption, world.engine.batch_delay_us) == ("preemptive", "swap", 500)
    assert (world.network.decision_ms, world.groups[0].busy_watts) == (0.4, 400.0)


@pytest.mark.parametrize(
    ("right", "wrong", "line", "complaint"),
    [
        ('preemption = "swap"', 'preemption = "drop"', 18, "preemption must be one of recompute, swap"),
        ("frequency = 0.8", "frequency = 3", 26, "frequency must be above 0"),
        ("share = 0.1", "share = 2", 29, "share must be from 0 to 1"),
        ('[[prefill]]\nmodel = "m"', '[[prefill]]\nmodel = "n"', 0, "no group has the model 'n'"),
        ('tp1"\nlink', 'tp3"\nlink', 13, "tp"),
        ("idle_watts = 60", "idle_watts = 600", 9, "idle_watts must be from 0 to busy_watts"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, right: str, wrong: str, line: int, complaint: str) -> None:
    assert WORLD.count(right) == 1
    with pytest.raises(ConfigError) as caught:
        read(written(tmp_path, WORLD.replace(right, wrong)))
    assert complaint in caught.value.message
    assert f"e.toml:{line}:" in caught.value.message or not line


def test_caches_of_unknown_size_cannot_move(tmp_path: Path) -> None:
    small = replace(profile_of(PROFILE), kv_bytes_per_token_per_gpu=0)
    save(tmp_path / "p.json", small, {})
    where = json.dumps(str(tmp_path / "p.json"))
    swapping = WORLD.replace(f'profile = "{PROFILE}"\nbusy', f"profile = {where}\nbusy")
    with pytest.raises(ConfigError, match=r"e\.toml:18: .*kv_bytes_per_token_per_gpu must be known .* swap_gb_per_s"):
        read(written(tmp_path, swapping))
    linked = WORLD.replace(f'profile = "{PROFILE}"\nlink', f"profile = {where}\nlink")
    with pytest.raises(ConfigError, match=r"e\.toml:13: .*kv_bytes_per_token_per_gpu must be known"):
        read(written(tmp_path, linked))
    assert read(written(tmp_path, linked.replace("link_gb_per_s = 12.5", "link_gb_per_s = 0"))).world.prefill
