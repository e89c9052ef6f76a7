"""What a model's configuration tells of its engine."""

from forebay.autoscaler.describe import figures_of
from forebay.autoscaler.life import Figures
from forebay.core.instance.catalog import compute_profile
from forebay.core.values import Batching

PROFILE = "A100-80G/Llama-3-8B/tp1"


def test_an_emulated_engine_tells_everything() -> None:
    parameters = {"profile": PROFILE, "max_seqs": "128", "model_tokens_max": "8192", "kv_tokens": "0"}
    kv_tokens = compute_profile("A100-80G", "Llama-3-8B", 1).kv_tokens
    assert figures_of(parameters) == Figures(128, kv_tokens, 8192, PROFILE)


def test_a_cache_that_is_told_counts_more_than_the_profile() -> None:
    assert figures_of({"profile": PROFILE, "kv_tokens": "5000"}).kv_tokens_max == 5000


def test_slots_have_a_cache_each() -> None:
    assert figures_of({"slots": "4", "context_tokens_per_slot": "2048"}) == Figures(4, 8192, 2048, "")


def test_what_is_not_told_or_makes_no_sense_is_unknown() -> None:
    assert figures_of({}) == Figures()
    assert figures_of({"max_seqs": "many", "kv_tokens": "-3", "profile": "toaster"}) == Figures(profile="toaster")


def test_an_engine_that_runs_the_batches_it_is_given_says_so() -> None:
    assert figures_of({"batch_given": "true"}).batching is Batching.STATIC
    assert figures_of({"batching": "static"}).batching is Batching.STATIC
    assert figures_of({"batch_given": "false", "batching": "continuous"}).batching is Batching.CONTINUOUS
