"""How many tokens a text has, where no tokenizer is at hand: an estimate that outcomes calibrate, a model each."""

import math

BYTES_PER_TOKEN = 4.0
"""English text in the vocabularies of Llama-like models has about four bytes a token."""


def estimate_tokens(text: str, bytes_per_token: float = BYTES_PER_TOKEN) -> int:
    """Estimates the tokens of `text`; at least 1 for a text that is not empty, 0 for an empty one."""
    return math.ceil(len(text.encode()) / bytes_per_token)


class TokenEstimator:
    """Learns the bytes a token of each model from the counts that the model itself reports."""

    def __init__(self, smoothing: float = 0.05) -> None:
        self._smoothing = smoothing
        self._bytes_per_token: dict[str, float] = {}

    def estimate(self, model: str, text: str) -> int:
        """Estimates the tokens that `model` makes of `text`."""
        return estimate_tokens(text, self._bytes_per_token.get(model, BYTES_PER_TOKEN))

    def observe(self, model: str, byte_count: int, tokens: int) -> None:
        """Learns that `model` made `tokens` of a text of `byte_count` bytes; ignores counts that say nothing."""
        if tokens <= 0 or byte_count <= 0:
            return
        seen = byte_count / tokens
        known = self._bytes_per_token.get(model, BYTES_PER_TOKEN)
        self._bytes_per_token[model] = known + self._smoothing * (seen - known)
