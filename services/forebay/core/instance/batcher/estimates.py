"""What a batcher expects of a request: how long its answer gets, and how long the engine is busy with it."""

from forebay.core.instance.batcher.base import BatchView, SequenceView
from forebay.core.instance.profile import EngineProfile, PrefillChunk

UPPER_FACTOR_MAX = 4


def expected_tokens(sequence: SequenceView, tokens_default: int) -> int:
    """The expected length of the whole answer: the predicted median, `tokens_default` where nobody predicted.

    A prediction that is overrun doubles, as often as it takes: the longer an answer is, the longer it is likely to go
    on, since lengths have heavy tails.
    """
    expected = sequence.hints.predicted_tokens or tokens_default
    while expected <= sequence.generated_tokens:
        expected *= 2
    return expected


def overrun_count(sequence: SequenceView, tokens_default: int) -> int:
    """How often the prediction had to be doubled."""
    predicted = sequence.hints.predicted_tokens or tokens_default
    return (expected_tokens(sequence, tokens_default) // predicted).bit_length() - 1


def blocks_expected(sequence: SequenceView, profile: EngineProfile, tokens_default: int) -> int:
    """The blocks that prompt and answer are expected to fill, by the 90th percentile where it is known.

    A percentile beyond `UPPER_FACTOR_MAX` times the expected length is cut there: it says that somebody does not know.
    """
    expected = expected_tokens(sequence, tokens_default)
    answer = max(expected, min(sequence.hints.predicted_tokens_p90, UPPER_FACTOR_MAX * expected))
    prompt = sequence.target_tokens - sequence.generated_tokens
    return profile.blocks(prompt + max(answer, sequence.generated_tokens + 1))


def blocks_needed(sequence: SequenceView, view: BatchView, tokens_default: int) -> int:
    """The blocks that a request must find to enter: those expected, or with `no_evict` those of its longest answer."""
    if view.flags.no_evict:
        return view.profile.blocks(sequence.tokens_max)
    return min(view.profile.block_count, blocks_expected(sequence, view.profile, tokens_default))


def remaining_ps(sequence: SequenceView, profile: EngineProfile, tokens_default: int) -> int:
    """How long the engine would need to end the request alone: T_pre + T_dec of ALISE (arXiv 2410.23537).

    T_pre is proportional to the prompt tokens to compute, at the speed of a full iteration; T_dec is n tokens of
    alpha * context + beta each, alpha and beta being the profile's.
    """
    answer_tokens = expected_tokens(sequence, tokens_default) - sequence.generated_tokens
    return prefill_ps(sequence, profile) + answer_tokens * token_ps(sequence.target_tokens, profile)


def prefill_ps(sequence: SequenceView, profile: EngineProfile) -> int:
    """How long the prompt tokens to come take at the speed of a full iteration."""
    if sequence.decoding:
        return 0
    return prompt_ps(sequence.target_tokens - max(sequence.cached_tokens, sequence.hit_tokens), profile)


def prompt_ps(tokens: int, profile: EngineProfile) -> int:
    """How long prompt tokens take at the speed of an iteration that computes nothing else."""
    most = profile.max_batch_tokens
    return tokens * profile.duration_ps(0, 0, [PrefillChunk(most, 0)]) // most


def token_ps(context_tokens: int, profile: EngineProfile) -> int:
    """How long the next token of an answer takes alone, after so much context."""
    return profile.iteration_ps[1] + profile.decode_ps + profile.context_token_ps * context_tokens
