from pathlib import Path

import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

from forebay.core.errors import ConfigError  # noqa: E402 - only where pandas is
from forebay.train.data import SOURCES, digest, digest_of, read, split  # noqa: E402


def prompt(number: int, text: str) -> dict[str, object]:
    return {"prompt_id": f"id{number:04x}", "prompt": text, "prompt_tokens_llama2": number + 1}


def answer(number: int, tokens: int, model: str = "gpt", kind: str = "llm") -> dict[str, object]:
    found = {"source": "s", "model": model, "task": "t", "kind": kind, "prompt_id": f"id{number:04x}"}
    return {**found, "response_tokens_llama2": tokens, "response_chars": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prompts = {
        "translation_gpt_mt": [
            prompt(n, f"Translate from en to {'de' if n % 2 else 'fr'}: s{n // 2}") for n in range(40)
        ],
        "bbh_cot_code-davinci-002": [prompt(n, f"Task: {n}") for n in range(40)],
        "gpteacher_gpt4": [prompt(n, f"Do {n}") for n in range(40)],
    }
    for source in SOURCES:
        rows = prompts[source.name]
        names = source.files
        pd.DataFrame(rows).to_parquet(tmp_path / names[0])
        answers = [answer(n, n * 10) for n in range(40)] + [answer(3, 999), answer(4, 5, kind="gold")]
        pd.DataFrame(answers).to_parquet(tmp_path / names[1])
    return tmp_path


def test_only_answers_of_models_count_and_each_once(folder: Path) -> None:
    rows = read(folder)
    assert len(rows) == 3 * 40
    assert 999 not in set(rows.response_tokens_llama2)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"translation_gpt_mt\.prompts"):
        read(tmp_path)


def test_multiples_of_five_are_tested(folder: Path) -> None:
    parts = split(read(folder))
    assert {int(query.request_id[-4:], 16) % 5 for query in parts.test.queries} == {0}
    assert len(parts.test) == 3 * 8


def test_no_sentence_is_trained_on_that_is_tested_in_another_language(folder: Path) -> None:
    parts = split(read(folder))
    texts = [
        {query.prompt_head.split(": ")[-1] for query in part.queries if query.prompt_head.startswith("Translate")}
        for part in (parts.train, parts.calibration, parts.test)
    ]
    assert texts[2]
    assert texts[0] | texts[1]
    assert not (texts[0] | texts[1]) & texts[2]
    assert not texts[0] & texts[1]


def test_tokens_stay_with_their_prompts(folder: Path) -> None:
    for part in (split(read(folder)).train, split(read(folder)).test):
        for query, tokens in zip(part.queries, part.tokens, strict=True):
            assert tokens == int(query.request_id[-4:], 16) * 10
            assert query.prompt_tokens == int(query.request_id[-4:], 16) + 1


def test_prompts_without_text_keep_their_lengths(folder: Path) -> None:
    train = split(read(folder)).train
    both = train.joined(train.without_text())
    assert len(both) == 2 * len(train)
    assert {query.prompt_head for query in both.queries[len(train) :]} == {""}
    assert both.tokens[len(train) :].tolist() == train.tokens.tolist()


def test_the_digest_tells_other_data(folder: Path) -> None:
    before = digest(folder)
    assert len(before) == 6
    (folder / "gpteacher_gpt4.answers.parquet").write_bytes(b"other")
    after = digest(folder)
    assert [name for name in before if before[name] != after[name]] == ["gpteacher_gpt4.answers.parquet"]
    assert digest_of(before) != digest_of(after)
