"""What predictors see of a prompt, and what makes it itself: one substance is never trained on and tested at once."""

import hashlib
import re

_BLANKS = re.compile(r"\s+")
_TRANSLATION = re.compile(r"^translate\b[^:]{0,200}: ")
SALT_BYTES_MAX = 64
PREFIX_BLOCK_BYTES = 1_024
"""About 256 tokens: caches of engines keep blocks of 16 to 512."""
PREFIX_COUNT_MAX = 1_024


def excerpt(text: str, bytes_max: int) -> str:
    """The whole text where it fits, else its head and its tail, half of the bytes each, cut between characters.

    The question of a long prompt stands at its end as often as at its beginning.
    """
    if len(text) <= bytes_max and len(data := text.encode(errors="replace")) <= bytes_max:
        return data.decode()
    head_bytes = bytes_max // 2
    tail_bytes = bytes_max - head_bytes
    head = text[:head_bytes].encode(errors="replace")[:head_bytes]
    tail = text[max(0, len(text) - tail_bytes) :].encode(errors="replace")
    return head.decode(errors="ignore") + tail[len(tail) - tail_bytes :].decode(errors="ignore")


def substance(prompt: str) -> str:
    """A prompt's words without case and blanks, and of a translation only the text to translate.

    Sentences of translation sets recur under each target language ("Translate from en to de: …"), so what stands
    before the first ": " is left out there.
    """
    plain = _BLANKS.sub(" ", prompt).strip().casefold()
    return _TRANSLATION.sub("", plain) or plain


def group_of(prompt: str, salt: bytes = b"") -> int:
    """The group of a prompt by its substance: 63 bits, the same in every run with the same salt.

    With a salt, of at most `SALT_BYTES_MAX` bytes, nobody without it can tell whose group a number is (keyed BLAKE2b,
    RFC 7693).
    """
    text = substance(prompt).encode(errors="replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=salt).digest(), "big") >> 1


def prefix_hashes(text: str) -> tuple[int, ...]:
    """Names of the blocks of a text, at most `PREFIX_COUNT_MAX`, each covering all before it; none of a short text.

    64 bits of BLAKE2b (RFC 7693), chained: texts that begin alike have equal names as far as they do. The last block
    may be partial.
    """
    most = PREFIX_BLOCK_BYTES * PREFIX_COUNT_MAX
    data = text[:most].encode(errors="replace")[:most]
    if len(data) < PREFIX_BLOCK_BYTES:
        return ()
    names, before = [], b""
    for start in range(0, len(data), PREFIX_BLOCK_BYTES):
        before = hashlib.blake2b(before + data[start : start + PREFIX_BLOCK_BYTES], digest_size=8).digest()
        names.append(int.from_bytes(before, "big"))
    return tuple(names)
