"""Spot pools in whole runs of experiment files: cheap, refused, late, and taken back with a notice."""

from pathlib import Path

import pytest

from forebay.simulator.experiment import read
from forebay.simulator.jobs import Outcome, execute, jobs_of

TEXT = """\
seeds = [3]

[trace]
generator = "poisson"
options = {{ rate_per_s = 0.5, duration_s = 1200.0 }}

[[groups]]
model = "m"
profile = "A100-80G/Llama-3-8B/tp1"
instances_initial = 4
instances_min = 4
instances_max = 6
gpu_hour_price = 0.5
spot = true

[[groups]]
model = "m"
profile = "A100-80G/Llama-3-8B/tp1"
instances_initial = 1
gpu_hour_price = 2.0

[start]
provisioning_s = 20.0

[spot]
{spot}

[[policies]]
name = "four of spot"
[policies.predictor]
length = "histogram"
"""
TAKEN = "reclaims_per_hour = 18.0\nnotice_s = 30.0"


def ran(folder: Path, spot: str) -> Outcome:
    path = folder / "e.toml"
    path.write_text(TEXT.format(spot=spot))
    [job] = jobs_of(read(path, None, folder))
    return execute(job)


def test_what_is_taken_back_drains_and_is_replaced_and_nobody_notices(tmp_path: Path) -> None:
    found = ran(tmp_path, TAKEN)
    counters, everyone = found.result.counters, found.summary.classes[0]
    assert counters["spot_notices"] == pytest.approx(4 * 6, rel=0.5)
    assert everyone.finished_count == everyone.request_count
    gone = {change.instance_id for change in found.result.changes if change.state in ("STOPPED", "LOST")}
    spots = {change.instance_id for change in found.result.changes if change.spot}
    assert gone
    assert gone <= spots, "the other group is never taken away"


def test_the_price_is_that_of_the_pool_even_beside_a_group_of_the_same_gpus(tmp_path: Path) -> None:
    fleet = ran(tmp_path, "reclaims_per_hour = 0.0").summary.fleet
    hours = fleet.gpu_hours / 5
    assert fleet.cost == pytest.approx(hours * (4 * 0.5 + 2.0))


def test_a_provider_that_has_nothing_left_refuses_and_one_that_has_little_is_late(tmp_path: Path) -> None:
    plain = ran(tmp_path, TAKEN)
    refused = ran(tmp_path, TAKEN + "\nrefusal_share = 1.0")
    late = ran(tmp_path, TAKEN + "\ndelay_s = 200.0")
    assert "starts_refused" not in plain.result.counters
    assert refused.result.counters["starts_refused"] > 10
    assert refused.result.changes[-1].spot
    alive = [
        change for change in refused.result.changes if change.spot and change.at_us > 0 and change.state == "READY"
    ]
    assert not alive, "none that was taken came back"
    assert late.summary.fleet.loading_gpu_hours > 3 * plain.summary.fleet.loading_gpu_hours
