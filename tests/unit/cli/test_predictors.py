"""The page of predictors, and the names that its commands take."""

import io

import pytest
from click.testing import CliRunner
from lmaas.predictor.v1.length_pb2 import PredictorAccuracy, PredictorModel, ShadowTrial
from rich.console import Console

from forebay.cli import main
from forebay.cli.console import WIDTH
from forebay.cli.predictors import Seen, render

MODELS = [
    PredictorModel(name="histogram", kind=1),
    PredictorModel(name="kernel_history", kind=1, previous=True),
    PredictorModel(name="onnx_quantile", version="3", kind=1, active=True, execution_provider="CUDAExecutionProvider"),
    PredictorModel(
        name="onnx_quantile",
        version="4",
        kind=1,
        shadow=True,
        trial=ShadowTrial(outcome_count=812, active_loss_tokens=20, shadow_loss_tokens=19, z_score=3.14),
    ),
    PredictorModel(name="semantic", version="1", kind=1, shadow=True, trial=ShadowTrial()),
    PredictorModel(name="least_error", kind=2, active=True),
]


def page(*rows: PredictorAccuracy) -> str:
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(render(Seen(MODELS, list(rows))))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line(text: str, *words: str) -> str:
    return next(one for one in text.splitlines() if all(word in one for word in words))


def test_each_predictor_says_where_it_stands() -> None:
    text = page()
    assert "active" in line(text, "onnx_quantile@3")
    assert "CUDA" in line(text, "onnx_quantile@3")
    assert "loss -5.0%, z 3.1, 812 outcomes" in line(text, "onnx_quantile@4", "shadow")
    assert "0 outcomes yet" in line(text, "semantic@1", "shadow")
    assert "previous" in line(text, "kernel_history")
    assert "workload" in line(text, "least_error", "active")
    assert "No outcome came yet" in text


def test_figures_stand_by_predictor_model_and_application() -> None:
    row = PredictorAccuracy(
        predictor="onnx_quantile@3",
        model="meta/llama-3.1-8b",
        application="translation",
        outcome_count=500,
        mae_tokens=17.23,
        coverage_p90=0.904,
        reserve_ratio=1.514,
    )
    drifting = PredictorAccuracy(predictor="scheduler histogram", model="m", outcome_count=1, is_drifting=True)
    drifting.drift_start_time.FromSeconds(3_661)
    text = page(row, drifting)
    found = line(text, "translation")
    for cell in ("onnx_quantile@3", "meta/llama-3.1-8b", "500", "17.2", "90.4 %", "1.51"):
        assert cell in found
    assert "01:01:01" in line(text, "scheduler histogram")
    assert line(text, "scheduler histogram").count("–") == 3
    assert max(map(len, text.splitlines())) <= WIDTH


def test_what_callers_chose_is_shown_and_not_obeyed() -> None:
    text = page(PredictorAccuracy(predictor="p", model="[/bold]", application="a\x1b[2J\n\0"))
    assert "[/bold]" in text
    assert "a·[2J··" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("name", ["@3", "onnx_quantile@", ""])
def test_a_name_that_is_none_is_refused_before_anything_is_sent(name: str) -> None:
    for command in ("activate", "shadow"):
        result = CliRunner().invoke(main, ["predictors", command, name])
        assert result.exit_code != 0
        assert "NAME@VERSION" in result.output


def test_a_kind_that_is_none_is_refused() -> None:
    result = CliRunner().invoke(main, ["predictors", "rollback", "weather"])
    assert result.exit_code == 2
    assert "workload" in result.output
