import numpy as np

from forebay.core.values import InferenceRequest
from forebay.predictor.lengths.encoders.plain import NUMBERS, PLAIN_COUNT, plain


def query(**changes: object) -> InferenceRequest:
    values: dict[str, object] = {"request_id": "q", "model": "m", "prompt_tokens": 10, "prompt_head": "a b\nlast"}
    return InferenceRequest(**{**values, **changes})  # type: ignore[arg-type]


def row(**changes: object) -> dict[str, float]:
    return dict(zip(NUMBERS, plain([query(**changes)])[0].tolist(), strict=False))


def test_sizes_are_logarithms_and_shares_are_as_they_are() -> None:
    found = row(tokens_max=99, temperature=0.5, turn_number=3)
    assert found["log_prompt_tokens"] == np.float32(np.log1p(10))
    assert found["log_last_line_characters"] == np.float32(np.log1p(4))
    assert found["log_tokens_max"] == np.float32(np.log1p(99))
    assert (found["has_tokens_max"], found["temperature"], found["has_system"]) == (1, 0.5, 0)


def test_names_that_share_a_part_share_a_cell() -> None:
    cells = plain([query(model=name) for name in ("llama-3", "Llama_2", "qwen")])[:, len(NUMBERS) :]
    assert cells[0] @ cells[1] > 0.4
    assert cells[0] @ cells[2] < cells[0] @ cells[1]


def test_an_application_is_no_model() -> None:
    one, other = plain([query(model="", application="chat"), query(model="chat")])[:, len(NUMBERS) :]
    assert one @ other == 0
    assert one.any()


def test_hostile_values_stay_finite() -> None:
    rows = plain(
        [query(prompt_head="", prompt_tokens=0), query(prompt_head="\0\ud800🙂", model="🙂", application="\n")]
    )
    assert rows.shape == (2, PLAIN_COUNT)
    assert np.isfinite(rows).all()


def test_no_query_has_no_row() -> None:
    assert plain([]).shape == (0, PLAIN_COUNT)
