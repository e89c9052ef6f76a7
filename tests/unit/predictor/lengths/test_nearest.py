import numpy as np
import pytest

from forebay.core.values import InferenceRequest
from forebay.predictor.lengths.correction import Seen
from forebay.predictor.lengths.nearest import KEYS_MAX, Corrections

RANDOM_SEED = 11
LEVELS = np.array((2.0, 3.0, 4.0, 4.4))


def query(model: str, application: str = "") -> InferenceRequest:
    return InferenceRequest("q", model, 50, application=application)


def taught(found: Corrections, model: str, application: str, off: float, count: int = 100) -> Corrections:
    """Answers are `off` longer than predicted, in logarithms, give or take."""
    generator = np.random.default_rng(RANDOM_SEED)
    for _ in range(count):
        answer = LEVELS[1] + off + 0.1 * generator.standard_normal()
        found.add(query(model, application), Seen(LEVELS, 4.0, float(answer)))
    return found


def off(found: Corrections, model: str, application: str = "") -> float:
    return float(found.of(query(model, application)).apply(LEVELS, 4.0)[1] - LEVELS[1])


@pytest.fixture
def known() -> Corrections:
    found = Corrections(500, 32)
    taught(found, "llama-3-8b", "chat", 2.0)
    taught(found, "llama-3-8b", "summary", -1.0)
    taught(found, "qwen-2-7b", "chat", 1.0)
    return taught(found, "qwen-2-7b", "code", 0.5)


@pytest.mark.parametrize(
    ("model", "application", "expected"),
    [
        ("llama-3-70b", "chat", 2.0),
        ("qwen2", "chat", 1.0),
        ("llama-4", "summary", -1.0),
        ("mistral", "summary", -1.0),
        ("mistral", "code", 0.5),
    ],
)
def test_a_new_pair_starts_from_its_application_under_the_most_alike_model(
    known: Corrections, model: str, application: str, expected: float
) -> None:
    assert off(known, model, application) == pytest.approx(expected, abs=0.15)


def test_a_new_application_starts_from_its_model(known: Corrections) -> None:
    assert off(known, "llama-3-8b", "poems") == off(known, "llama-3-8b") != off(known, "qwen-2-7b")


def test_a_new_model_starts_from_the_model_of_a_like_name(known: Corrections) -> None:
    assert off(known, "qwen-72b") == off(known, "qwen-2-7b")
    assert off(known, "qwen-72b", "poems") == off(known, "qwen-2-7b")


def test_what_is_like_nothing_starts_from_all(known: Corrections) -> None:
    assert off(known, "mistral") == off(known, "other", "poems")
    assert -1.0 < off(known, "mistral") < 2.0


def test_nothing_known_corrects_nothing() -> None:
    assert off(Corrections(500, 32), "m", "a") == 0


@pytest.mark.parametrize(("count", "share"), [(1, 0.2), (10, 0.7), (30, 0.85), (100, 0.95)])
def test_tens_of_outcomes_make_a_new_pair_its_own(known: Corrections, count: int, share: float) -> None:
    taught(known, "llama-3-70b", "chat", -2.0, count)
    assert -2.2 < off(known, "llama-3-70b", "chat") < 2.0 - 4.0 * share + 0.25


def test_an_application_that_becomes_known_is_started_from_at_once(known: Corrections) -> None:
    assert off(known, "mistral", "poems") != pytest.approx(3.0, abs=0.5)
    taught(known, "gemma", "poems", 3.0)
    assert off(known, "mistral", "poems") == pytest.approx(3.0, abs=0.15)


def test_the_keys_that_are_remembered_are_bounded() -> None:
    found = Corrections(10, 5)
    for number in range(2 * KEYS_MAX):
        found.add(query(f"m{number}"), Seen(LEVELS, 4.0, 3.0))
    assert len(found) == KEYS_MAX


def test_asking_for_ever_new_applications_keeps_no_more_of_them(known: Corrections) -> None:
    for number in range(3 * KEYS_MAX):
        known.of(query("llama-3-8b", f"a{number}"))
    assert len(known._nearest) <= KEYS_MAX
