"""Engine profiles by name: GPU/MODEL/tpN of the catalog, or the path of a profile file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forebay.core.errors import ConfigError
from forebay.core.instance import EngineProfile, compute_profile, parse_profile_name
from forebay.core.instance.document import SUFFIX, from_text, narrowed, to_document


def is_file(name: str) -> bool:
    """Whether a profile's name is the path of a profile file."""
    return name.endswith(SUFFIX)


def profile_of(
    name: str, *, max_seqs: int = 256, max_batch_tokens: int = 2_048, block_size: int = 16, kv_tokens: int = 0
) -> EngineProfile:
    """The profile called `name` under an engine's limits; `kv_tokens` 0 takes the profile's own.

    A file's limits and block size are those that it was measured with: smaller limits are kept, larger ones cut to the
    file's. Raises ConfigError for a file that is not there or not right, ValueError for an unknown catalog name.
    """
    if is_file(name):
        return narrowed(load(Path(name))[0], max_seqs, max_batch_tokens, kv_tokens)
    return compute_profile(
        *parse_profile_name(name),
        max_seqs=max_seqs,
        max_batch_tokens=max_batch_tokens,
        block_size=block_size,
        kv_tokens=kv_tokens or None,
    )


def load(path: Path) -> tuple[EngineProfile, dict[str, Any]]:
    """A profile file and its evidence; raises ConfigError naming file, line where known, and key."""
    try:
        return from_text(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; forebay calibrate --output writes such a file") from error
    except ValueError as error:
        where = f"{path}: {error}".replace(": line ", ":", 1)
        raise ConfigError(where) from error


def save(path: Path, profile: EngineProfile, evidence: Mapping[str, object]) -> None:
    """Writes a profile file; `load` gives back every integer of it."""
    document = to_document(profile, evidence)
    table = json.dumps(document.pop("iteration_ps"), separators=(",", ":"))
    text = json.dumps(document, indent=2)
    path.write_text(f'{text[:-2]},\n  "iteration_ps": {table}\n}}\n')
