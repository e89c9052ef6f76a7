"""A workload is what it promises to be, or the row that breaks it is named."""

import numpy as np
import pytest

from forebay.simulator.workload.base import Ragged, change, make_workload, ragged, take

ROWS = ([0, 1, 2], [600, 20, 30], [1, 2, 3])


def test_what_is_left_out_is_plain_and_nothing_can_be_written_to() -> None:
    workload = make_workload(*ROWS)
    assert (workload.program.tolist(), workload.text.tolist(), workload.model.tolist()) == ([-1] * 3, [-1] * 3, [0] * 3)
    with pytest.raises(ValueError, match="read-only"):
        workload.arrival_us[0] = 5


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"arrival_us": [0, 2, 1]}, "row 2: arrival_us"),
        ({"arrival_us": [-1, 2, 3]}, "row 0: arrival_us"),
        ({"prompt_tokens": [1, 0, 1]}, "row 1: prompt_tokens"),
        ({"output_tokens": [1, 1, 0]}, "row 2: output_tokens"),
        ({"output_tokens": [1, 1]}, "column output_tokens has 2 rows"),
        ({"think_us": [0, -1, 0]}, "row 1: think_us"),
        ({"deadline_us": [0]}, "column deadline_us has 1 rows"),
        ({"slo_class": [1, 2, 4]}, "row 2: slo_class"),
        ({"model": [0, 1, 0]}, "row 1: model is no index"),
        ({"tenant": [0, -1, 0]}, "row 1: tenant is no index"),
        ({"text": [-1, 0, -1]}, "row 1: text is no index"),
        ({"program": [-2, 0, 0]}, "row 0: program"),
        ({"parents": [[], [1], []]}, "row 1: parents must be rows before"),
        ({"parents": [[], [0]]}, "one row of them for each arrival"),
        ({"blocks": [[1], [2], [3, 4]]}, "row 2: more blocks"),
        ({"blocks": [[1, 2], [2], [3]], "block_tokens": 0}, "block_tokens"),
        ({"user": [1, 2, 3]}, "no column user; known: output_tokens_max"),
        ({"names": {"model": ("a",)}}, "no table of names model; known: models"),
    ],
)
def test_what_cannot_be_is_an_error_that_names_the_row(changes: dict[str, object], what: str) -> None:
    columns: dict[str, object] = (
        dict(zip(("arrival_us", "prompt_tokens", "output_tokens"), ROWS, strict=True)) | changes
    )
    with pytest.raises(ValueError, match=what):
        make_workload(**columns)  # type: ignore[arg-type]


def test_ragged_rows_are_taken_in_any_order_and_cut() -> None:
    rows = ragged([[1, 2, 3], [], [4], [5, 6]])
    taken = rows.take(np.array([3, 0, 1]))
    assert (taken.start.tolist(), taken.values.tolist()) == ([0, 2, 5, 5], [5, 6, 1, 2, 3])
    cut = rows.cut(np.array([2, 1, 0, 9]))
    assert (cut.start.tolist(), cut.values.tolist()) == ([0, 2, 2, 2, 4], [1, 2, 5, 6])


def test_rows_that_are_taken_keep_their_parents_and_blocks() -> None:
    workload = make_workload(*ROWS, parents=[[], [0], [0, 1]], blocks=[[7, 8], [7], [9]])
    taken = take(workload, np.array([0, 1]))
    assert (taken.parents.tolist(), taken.blocks.tolist()) == ([0], [7, 8, 7])
    with pytest.raises(ValueError, match="row 0: parents"):
        take(workload, np.array([1, 2]))


def test_a_changed_workload_is_checked_and_the_old_one_stays() -> None:
    workload = make_workload(*ROWS)
    changed = change(
        workload, prompt_tokens=[1, 1, 1], models=("x",), blocks_of=Ragged(np.zeros(4, int), np.zeros(0, int))
    )
    assert (changed.prompt_tokens.tolist(), changed.models) == ([1, 1, 1], ("x",))
    assert workload.prompt_tokens.tolist() == ROWS[1]
    with pytest.raises(ValueError, match="row 1"):
        change(workload, arrival_us=[3, 2, 1])
