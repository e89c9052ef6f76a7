"""An experiment is read strictly: each mistake is named with its line and its key."""

from dataclasses import replace
from pathlib import Path

import pytest

from forebay.core.errors import ConfigError
from forebay.simulator.config import OracleConfig
from forebay.simulator.experiment import Experiment, read
from forebay.simulator.jobs import Job, code_digest, execute, jobs_of

GOOD = """\
seeds = [1, 2]
loads = [0.5, 1.0]

[trace]
generator = "poisson"
options = { rate_per_s = 2.0, duration_s = 60.0 }
class_shares = { interactive-fast = 1, deferred = 3 }

[[groups]]
model = "m"
profile = "A100-80G/Llama-3-8B/tp1"
instances_initial = 2
instances_max = 4

[start]
provisioning_s = 10

[slo.interactive_fast]
ttft_s = 0.5

[oracle]
search = false
window_s = 60

[[policies]]
name = "round robin"
[policies.scheduler]
router = "round_robin"

[[policies]]
name = "power of two"
oracle = true
[policies.scheduler]
router = "power_of_two"
router_parameters = { seed = 3 }
[policies.autoscaler]
policy = "kpa"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "e.toml"
    path.write_text(text)
    return path


def good(folder: Path) -> Experiment:
    return read(written(folder, GOOD))


def test_a_good_file_is_read(tmp_path: Path) -> None:
    made = good(tmp_path)
    assert (made.name, made.seeds, made.loads) == ("e", (1, 2), (0.5, 1.0))
    assert [(arm.name, arm.oracle) for arm in made.policies] == [("round robin", False), ("power of two", True)]
    assert made.world.start.provisioning_s == 10.0
    assert made.world.slo.interactive_fast.ttft_s == 0.5
    assert made.world.groups[0].instances_max == 4


BAD = [
    ("seeds = [1, 2]", "seedz = [1, 2]", 1, "unknown key 'seedz' in the experiment; did you mean 'seeds'?"),
    ("seeds = [1, 2]", "seeds = []", 1, "seeds is empty"),
    ("seeds = [1, 2]", "seeds = [1, 1]", 1, "seeds must differ"),
    ("seeds = [1, 2]", 'seeds = [1, "2"]', 1, "seeds[1] must be int"),
    ("seeds = [1, 2]", "seeds = [1, -2]", 1, "must not be negative"),
    ("loads = [0.5, 1.0]", 'loads = [1.0]\ncolumns = ["speed"]', 3, "there is no measure 'speed'"),
    (
        "loads = [0.5, 1.0]",
        'loads = [1.0]\ncolumns = ["jain/x"]',
        3,
        "after the slash goes one of all",
    ),
    ("loads = [0.5, 1.0]", "loads = [0]", 2, "loads must be numbers above 0"),
    ("loads = [0.5, 1.0]", "loads = [0.5, 1.0", 4, "not TOML"),
    ('generator = "poisson"', 'generator = "poison"', 5, "no generator 'poison'"),
    ('generator = "poisson"', 'format = "azure"', 4, "give either a generator or a path"),
    ('generator = "poisson"', "", 4, "give either a generator or a path"),
    ("rate_per_s = 2.0", "rate_pers = 2.0", 6, "did you mean 'rate_per_s'?"),
    ("rate_per_s = 2.0", "rate_per_s = 0", 6, "rate_per_s"),
    ("deferred = 3", "batch = 3", 7, "class_shares has no class batch"),
    ("deferred = 3", 'deferred = "x"', 7, "class_shares.deferred"),
    ('model = "m"', "", 9, "every group needs a model"),
    ('model = "m"', 'modell = "m"', 10, "did you mean 'model'?"),
    ("A100-80G/Llama-3-8B/tp1", "A100/Llama-3-8B/tp1", 11, "unknown GPU 'A100'"),
    ("A100-80G/Llama-3-8B/tp1", "Llama-3-8B", 11, "GPU/MODEL/tpN"),
    ("instances_initial = 2", "instances_initial = 5", 12, "instances_max (4)"),
    ("provisioning_s = 10", 'provisioning_s = "10"', 16, "start.provisioning_s must be float"),
    ("ttft_s = 0.5", "ttft = 0.5", 19, "did you mean 'ttft_s'?"),
    ("window_s = 60", "windows_s = 60", 23, "did you mean 'window_s'?"),
    ("window_s = 60", "window_s = 0", 23, "window_s must be above 0"),
    ("search = false", 'search = "yes"', 22, "oracle.search must be bool"),
    (
        "search = false\nwindow_s = 60",
        "search = true\n[student]\nshare = 0.5",
        21,
        "search: [student] answers",
    ),
    ('router = "round_robin"', 'router = "round_robbin"', 28, "unknown router 'round_robbin'"),
    ('router = "round_robin"', 'ruoter = "round_robin"', 28, "did you mean 'router'?"),
    ("seed = 3", "sede = 3", 35, "did you mean 'seed'?"),
    ('policy = "kpa"', 'policy = "kpaa"', 37, "unknown policy 'kpaa'"),
    ('policy = "kpa"', "tick_s = 0", 37, "tick_s must be positive"),
    ('policy = "kpa"', "servers = []", 37, "[[groups]] say what the fleet is"),
    ('name = "power of two"', 'name = "round robin"', None, "two policies have the name"),
    ('name = "power of two"', 'name = "../up"', 31, "name is '../up'"),
    ("[policies.autoscaler]", "[policies.autoscalers]", 36, "did you mean 'autoscaler'?"),
    ("[policies.autoscaler]\npolicy", "[policies.predictor]\nlength", 37, "length"),
    ("[policies.autoscaler]\npolicy", "[policies.engine]\nbatchr", 37, "did you mean 'batcher'?"),
    ("[policies.autoscaler]\npolicy = ", "[policies.gateway]\nslo_class_default = ", 37, "slo_class_default is 'kpa'"),
]


@pytest.mark.parametrize(("old", "new", "line", "words"), BAD, ids=[f"{one[1] or 'no ' + one[0]}" for one in BAD])
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, line: int | None, words: str) -> None:
    assert GOOD.count(old) == 1
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert words in caught.value.message
    assert caught.value.message.startswith(f"{path}:{line}: " if line else f"{path}:")


def test_an_experiment_without_policies_says_what_to_add(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD[: GOOD.index("[[policies]]")])
    with pytest.raises(ConfigError, match=r"add a \[\[policies\]\]"):
        read(path)


def test_an_experiment_without_a_fleet_says_what_to_add(tmp_path: Path) -> None:
    start, end = GOOD.index("[[groups]]"), GOOD.index("[start]")
    with pytest.raises(ConfigError, match=r"add a \[\[groups\]\]"):
        read(written(tmp_path, GOOD[:start] + GOOD[end:]))


FILED = GOOD.replace(
    'generator = "poisson"\noptions = { rate_per_s = 2.0, duration_s = 60.0 }', 'format = "azure"\npath = "{}"'
)


def test_a_path_is_relative_to_the_file_or_to_a_named_folder(tmp_path: Path) -> None:
    for folder in ("data/open", "samples"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "t.csv").write_text("")
    (tmp_path / "t.csv").write_text("")
    for given, found in (
        ("t.csv", "t.csv"),
        ("data:open/t.csv", "data/open/t.csv"),
        ("samples:t.csv", "samples/t.csv"),
    ):
        path = written(tmp_path, FILED.replace("{}", given))
        made = read(path, data=tmp_path / "data", samples=tmp_path / "samples")
        assert Path(made.trace.path) == tmp_path / found


@pytest.mark.parametrize(("given", "words"), [("nowhere.csv", "there is no trace"), ("data:t.csv", "FOREBAY_DATA")])
def test_a_trace_that_is_not_there_is_named(tmp_path: Path, given: str, words: str) -> None:
    path = written(tmp_path, FILED.replace("{}", given))
    with pytest.raises(ConfigError, match=words) as caught:
        read(path)
    assert caught.value.message.startswith(f"{path}:6: ")


def test_prompts_that_a_benchmark_makes_are_told_how_to_make(tmp_path: Path) -> None:
    path = written(
        tmp_path, FILED.replace("{}", "t.csv").replace("[trace]", '[trace]\nprompts = ".forebay/prompts/chat.jsonl"')
    )
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(ConfigError, match=r"no file of prompts .*; make it once: python -m benchmarks\.chat_prompts"):
        read(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        read(tmp_path / "nowhere.toml")


def test_every_policy_runs_at_every_load_with_every_seed(tmp_path: Path) -> None:
    made = jobs_of(good(tmp_path))
    assert len({job.key for job in made}) == len(made) == 2 * 2 * 2
    assert [job.seed for job in made] == [1] * 4 + [2] * 4
    assert made[0].key == "round_robin-load0.5-seed1"


def test_a_searched_fleet_is_one_more_oracle_at_each_load_with_each_seed(tmp_path: Path) -> None:
    made = read(written(tmp_path, GOOD.replace("search = false", "search = true")))
    assert [(arm.name, arm.oracle) for arm in made.arms[2:]] == [("best fleet found", True)]
    jobs = jobs_of(made)
    assert [job.search for job in jobs[:8]] == [None] * 8
    assert [(job.key, job.run_count_max) for job in jobs[8:]] == [
        (f"best_fleet_found-load{load}-seed{seed}", 61) for seed in (1, 2) for load in (0.5, 1)
    ]
    assert {job.search for job in jobs[8:]} == {OracleConfig(search=True, window_s=60.0)}
    assert len(jobs_of(good(tmp_path))) == 8


def test_nobody_else_is_called_as_the_searched_fleet_is(tmp_path: Path) -> None:
    same = GOOD.replace("search = false", "search = true").replace("power of two", "Best fleet found")
    with pytest.raises(ConfigError, match="two policies have the name 'Best fleet found'"):
        read(written(tmp_path, same))


def test_a_policy_may_change_the_engine_for_itself(tmp_path: Path) -> None:
    made = read(written(tmp_path, GOOD + "[policies.engine]\nmax_seqs = 8\n"))
    assert [job.world.engine.max_seqs for job in jobs_of(made)[:2]] == [256, 8]
    assert jobs_of(made)[1].world.groups == made.groups


def test_the_digest_changes_with_what_a_result_depends_on(tmp_path: Path) -> None:
    first = jobs_of(good(tmp_path))[0]
    assert first.digest() == jobs_of(good(tmp_path))[0].digest()
    changed = [
        GOOD.replace("rate_per_s = 2.0", "rate_per_s = 2.5"),
        GOOD.replace("provisioning_s = 10", "provisioning_s = 11"),
        GOOD.replace("round_robin", "least_requests"),
    ]
    digests = {jobs_of(read(written(tmp_path, text)))[0].digest() for text in changed}
    assert len(digests | {first.digest()}) == 4


def test_the_digest_changes_with_the_traces_content(tmp_path: Path) -> None:
    digests: set[str] = set()
    for content in ("a", "b"):
        (tmp_path / content).mkdir()
        (tmp_path / content / "t.csv").write_text(content)
        job: Job = jobs_of(read(written(tmp_path / content, FILED.replace("{}", "t.csv"))))[0]
        digests.add(job.digest())
    assert len(digests) == 2
    assert len(code_digest()) == 64


def test_prompts_are_sought_like_the_trace_and_count_for_the_digest(tmp_path: Path) -> None:
    with_prompts = GOOD.replace("class_shares", 'prompts = "p.jsonl"\nclass_shares')
    with pytest.raises(ConfigError, match=r"e\.toml:7: .*p\.jsonl"):
        read(written(tmp_path, with_prompts))
    (tmp_path / "p.jsonl").write_text('{"prompt": "Hello", "output_tokens": 7}\n')
    made = read(written(tmp_path, with_prompts))
    assert Path(made.trace.prompts) == tmp_path / "p.jsonl"
    assert jobs_of(made)[0].digest() != jobs_of(good(tmp_path))[0].digest()


def test_errors_are_sought_and_count_for_the_digest_and_exclude_prompts(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "Hello", "output_tokens": 7, "predicted_tokens": [1, 2, 3, 4]}\n')
    made = read(written(tmp_path, GOOD.replace("class_shares", 'errors = "p.jsonl"\nclass_shares')))
    assert Path(made.trace.errors) == tmp_path / "p.jsonl"
    assert jobs_of(made)[0].digest() != jobs_of(good(tmp_path))[0].digest()
    both = GOOD.replace("class_shares", 'errors = "p.jsonl"\nprompts = "p.jsonl"\nclass_shares')
    with pytest.raises(ConfigError, match="leave out errors"):
        read(written(tmp_path, both))


def test_routers_are_compared_directly_where_the_experiment_says_so(tmp_path: Path) -> None:
    text = """direct = true
[trace]
generator = "poisson"
options = { rate_per_s = 4.0, duration_s = 20.0 }
[[groups]]
model = "m"
profile = "A100-80G/Llama-3-8B/tp1"
[[policies]]
name = "round robin"
[policies.scheduler]
router = "round_robin"
admission = "open"
puller = "unlimited"
[policies.predictor]
length = "input_ratio"
"""
    [job, *_] = jobs_of(read(written(tmp_path, text), None, tmp_path))
    assert job.direct
    assert execute(job).summary.classes[0].finished_count > 40
    with pytest.raises(ConfigError, match="a direct run cannot do this: the world has horizon_s"):
        execute(replace(job, world=replace(job.world, horizon_s=5.0)))
    with pytest.raises(ConfigError, match="direct runs have no fleet to search"):
        read(written(tmp_path, text + "[oracle]\nsearch = true\n"), None, tmp_path)
