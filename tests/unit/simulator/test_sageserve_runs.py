"""SageServe's strategies in whole runs of an experiment file, in one pool and in two silos, with donated instances."""

from pathlib import Path

import pytest

from forebay.core.values import SloClass
from forebay.simulator.experiment import read
from forebay.simulator.jobs import Outcome, execute, jobs_of

TEXT = """\
seeds = [1]

[trace]
generator = "diurnal"
options = {{ rate_per_s = 1.5, duration_s = 900.0, period_s = 900.0, amplitude = 0.9, trough_s = 0.0 }}
class_shares = {{ interactive-fast = 2, interactive-normal = 1, deferred = 1 }}
deadlines_s = {{ deferred = 600.0 }}

{groups}

[start]
provisioning_s = 10.0
warm_s = 5.0

[donation]
enabled = true
reclaim_s = 10.0

[[policies]]
name = "arm"
[policies.predictor]
forecaster = "last_value"
length = "histogram"
[policies.scheduler]
system = "sageserve_edf"
[policies.autoscaler]
policy = "sageserve_lt_i"
parameters = {{ period_s = 180.0, window_s = 60.0, lead_s = 60.0 }}
{models}
"""


def ran(folder: Path, *roles: str) -> Outcome:
    """One pool a role, of instances that do 400 tokens/s, 3 at the start."""
    group = '[[groups]]\nmodel = "m"\npool = "{0}"\nrole = "{0}"\nprofile = "A100-80G/Llama-3-8B/tp1"\n'
    group += "instances_initial = 3\ninstances_max = 8\n"
    model = '[[policies.autoscaler.models]]\nname = "m"\npool = "{0}"\ntokens_per_s = 400.0\n'
    path = folder / "e.toml"
    path.write_text(TEXT.format(groups="\n".join(map(group.format, roles)), models="\n".join(map(model.format, roles))))
    [job] = jobs_of(read(path, None, folder))
    return execute(job)


@pytest.mark.parametrize("roles", [("mixed",), ("interactive", "batch")])
def test_the_fleet_follows_its_plans_and_all_classes_are_served(tmp_path: Path, roles: tuple[str, ...]) -> None:
    found = ran(tmp_path, *roles)
    rows = found.result.requests
    for slo_class in SloClass:
        assert (rows.finish_us[rows.slo_class == slo_class] > 0).all()
    assert found.summary.fleet.scaling_count > 2
    assert found.summary.fleet.spot_gpu_hours > 0
    counters = found.result.counters
    assert counters["donation_reclaims"] <= counters["donations"]
    assert 0 < counters["donations"] <= found.summary.fleet.scaling_count
