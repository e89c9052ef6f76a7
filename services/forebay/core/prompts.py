"""What makes a prompt itself, whatever frames it: prompts of one substance are never trained on and tested at once."""

import hashlib
import re

_BLANKS = re.compile(r"\s+")
_TRANSLATION = re.compile(r"^translate\b[^:]{0,200}: ")
SALT_BYTES_MAX = 64


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
