"""The workload of a run depends on the trace, the seed and the load, and on nothing else."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from forebay.core.errors import ConfigError
from forebay.core.values import SloClass
from forebay.simulator.config import Group, World
from forebay.simulator.make_workload import make
from forebay.simulator.trace_config import TraceConfig
from forebay.simulator.workload import Workload

WORLD = World(groups=(Group(model="m", profile="H100/Llama-3-8B/tp1"),))
TWO = World(groups=(*WORLD.groups, Group(model="n", profile="H100/Llama-3-8B/tp1")))
POISSON = TraceConfig(generator="poisson", options={"rate_per_s": 5.0, "duration_s": 100.0})


def azure(folder: Path, count: int = 100) -> TraceConfig:
    path = folder / "t.csv"
    rows = [f"2025-01-01 00:{n // 60:02}:{n % 60:02}.0000000,{100 + n},{1 + n}" for n in range(count)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    return TraceConfig(format="azure", path=str(path))


def same(one: Workload, other: Workload) -> bool:
    columns = [field.name for field in dataclasses.fields(Workload)]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns if name != "notes")


def test_equal_seeds_give_equal_requests_and_others_others() -> None:
    assert same(make(POISSON, WORLD, 3, 1.0), make(POISSON, WORLD, 3, 1.0))
    assert not same(make(POISSON, WORLD, 3, 1.0), make(POISSON, WORLD, 4, 1.0))


def test_a_load_divides_the_times() -> None:
    one, two = make(POISSON, WORLD, 3, 1.0), make(POISSON, WORLD, 3, 2.0)
    assert np.array_equal(np.rint(one.arrival_us / 2), two.arrival_us)


def test_copies_keep_the_length_of_the_trace() -> None:
    trace = dataclasses.replace(POISSON, load_by="copies")
    one, two = make(trace, WORLD, 3, 1.0), make(trace, WORLD, 3, 2.0)
    assert len(two) == 2 * len(one)
    assert two.arrival_us[-1] == pytest.approx(one.arrival_us[-1], rel=0.1)


def test_the_only_model_of_a_fleet_gets_everything() -> None:
    assert make(POISSON, WORLD, 1, 1.0).models == ("m",)


def test_models_that_nobody_serves_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="asks for model, which no group serves"):
        make(azure(tmp_path), TWO, 1, 1.0)


def test_a_trace_that_outlasts_the_clock_is_refused_and_a_window_of_it_is_not() -> None:
    slow = TraceConfig(generator="poisson", options={"rate_per_s": 0.0001, "duration_s": 60 * 86_400.0})
    with pytest.raises(ConfigError, match="a run has room for 50; cut a window"):
        make(slow, WORLD, 1, 1.0)
    assert len(make(dataclasses.replace(slow, duration_s=49 * 86_400.0), WORLD, 1, 1.0)) > 100


def test_shares_draw_models_classes_regions_and_tenants() -> None:
    trace = dataclasses.replace(
        POISSON,
        model_shares={"m": 1, "n": 3},
        class_shares={"interactive-fast": 1, "deferred": 1},
        deadlines_s={"deferred": 60.0},
        region_shares={"east": 1, "west": 1},
        tenant_shares={"a": 1, "b": 1},
    )
    made = make(trace, TWO, 1, 1.0)
    assert (made.models, made.regions, made.tenants) == (("m", "n"), ("east", "west"), ("a", "b"))
    assert np.mean(made.model == 1) == pytest.approx(0.75, abs=0.1)
    deferred = made.slo_class == int(SloClass.DEFERRED)
    assert set(made.deadline_us[deferred]) == {60_000_000}
    assert set(made.deadline_us[~deferred]) == {0}


def test_a_window_begins_at_zero_and_a_limit_cuts_it(tmp_path: Path) -> None:
    trace = dataclasses.replace(azure(tmp_path), start_s=10.0, duration_s=30.0)
    made = make(trace, WORLD, 1, 1.0)
    assert (len(made), made.arrival_us[0], made.prompt_tokens[0]) == (30, 0, 110)
    assert len(make(dataclasses.replace(trace, limit=5), WORLD, 1, 1.0)) == 5
    assert len(make(dataclasses.replace(trace, duration_s=0.0), WORLD, 1, 1.0)) == 90


def test_a_window_without_requests_says_where_the_trace_ends(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the trace ends at 99 s"):
        make(dataclasses.replace(azure(tmp_path), start_s=500.0), WORLD, 1, 1.0)


def test_prompts_are_shortened_to_what_fits(tmp_path: Path) -> None:
    made = make(dataclasses.replace(azure(tmp_path), tokens_max=150), WORLD, 1, 1.0)
    assert (made.prompt_tokens + made.output_tokens).max() == 150


def test_seeds_exchange_lengths_and_leave_arrivals(tmp_path: Path) -> None:
    trace = dataclasses.replace(azure(tmp_path), shuffle_s=20.0)
    one, two = make(trace, WORLD, 1, 1.0), make(trace, WORLD, 2, 1.0)
    assert np.array_equal(one.arrival_us, two.arrival_us)
    assert not np.array_equal(one.prompt_tokens, two.prompt_tokens)
    assert sorted(one.prompt_tokens[:20]) == sorted(two.prompt_tokens[:20]) == list(range(100, 120))


def test_a_generator_that_gives_nothing_is_an_error_of_the_trace() -> None:
    empty = TraceConfig(generator="poisson", options={"rate_per_s": 1e-6, "duration_s": 1.0})
    with pytest.raises(ConfigError, match="no request came"):
        make(empty, WORLD, 1, 1.0)


def test_prompts_bring_their_texts_and_lengths(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "Hello", "output_tokens": 7}\n{"prompt": "Bye", "output_tokens": 9}\n')
    made = make(dataclasses.replace(POISSON, prompts=str(path)), WORLD, 1, 1.0)
    assert set(made.texts) == {"Hello", "Bye"}
    assert set(made.output_tokens.tolist()) == {7, 9}
    assert np.array_equal(made.arrival_us, make(POISSON, WORLD, 1, 1.0).arrival_us)


def test_kept_classes_are_the_same_requests_without_the_others() -> None:
    shares = {"interactive-fast": 1.0, "deferred": 1.0}
    mixed = dataclasses.replace(POISSON, class_shares=shares)
    alone = make(dataclasses.replace(mixed, keep_classes=("interactive-fast",)), WORLD, 3, 2.0)
    both = make(mixed, WORLD, 3, 2.0)
    is_fast = both.slo_class == SloClass.INTERACTIVE_FAST
    assert 0 < is_fast.sum() < len(both)
    assert np.array_equal(alone.arrival_us, both.arrival_us[is_fast])
    assert np.array_equal(alone.output_tokens, both.output_tokens[is_fast])


def test_errors_of_predictions_are_drawn_for_a_trace_without_text(tmp_path: Path) -> None:
    lines = [
        f'{{"prompt": "p{n}", "output_tokens": {n}, "predicted_tokens": [{n}, {2 * n}, {3 * n}, {4 * n}]}}'
        for n in range(1, 41)
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n")
    made = make(dataclasses.replace(POISSON, errors=str(tmp_path / "p.jsonl")), WORLD, 3, 1.0)
    assert np.allclose(made.predicted_p50, 2 * made.output_tokens, atol=1)
    assert any("resampled error" in note for note in made.notes)
