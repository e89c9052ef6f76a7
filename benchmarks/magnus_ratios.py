"""Sets Magnus' experiment beside what its paper prints: throughput and response time against vanilla batching.

Reads what `forebay compare --experiment benchmarks/experiments/magnus_batching.toml` left.
Run: PYTHONPATH=services:clients/python python -m benchmarks.magnus_ratios [RESULTS]
"""

import json
from pathlib import Path

import click

from benchmarks.length_data import ROOT

RESULTS = ROOT / ".forebay" / "compare" / "magnus_batching" / "results.json"
BASE = "VS"
PUBLISHED = "published (abstract; other GPU, model and prompts): throughput up to +234 %, response time up to -89.7 %"


@click.command(help="Print the ratios of Magnus' experiment beside the published ones.")
@click.argument("results", type=click.Path(path_type=Path, dir_okay=False), default=RESULTS)
def main(results: Path) -> None:
    if not results.exists():
        raise click.ClickException(f"there is no {results}; run forebay compare with the experiment first")
    found = json.loads(results.read_text())
    means = {
        (one["load"], one["policy"], one["measure"]): one["mean"]
        for one in found["estimates"]
        if one["class"] == "all" and one["measure"] in ("goodput", "e2e_mean")
    }
    print(f"against {BASE}, means over {len(found['seeds'])} seeds: requests a second and mean response time")
    print(f"{'load':>6}  {'policy':24}{'req/s':>8}{'':>9}{'response':>11}")
    for load, policy in sorted(dict.fromkeys((load, policy) for load, policy, _ in means), key=lambda one: one[0]):
        rate, wait_s = (means[load, policy, measure] for measure in ("goodput", "e2e_mean"))
        more, less = (
            100 * (means[load, policy, measure] / means[load, BASE, measure] - 1) for measure in ("goodput", "e2e_mean")
        )
        print(f"{load:6g}  {policy:24}{rate:8.2f}{more:+7.0f} %{wait_s:9.2f} s{less:+7.1f} %")
    print(PUBLISHED)


if __name__ == "__main__":
    main()
