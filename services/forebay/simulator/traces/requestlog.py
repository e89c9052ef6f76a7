"""Reads and writes our own request log: JSON lines with what the metrics service keeps of each request."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from forebay.core.errors import ConfigError
from forebay.core.metrics import RequestRecord, RequestStatus
from forebay.core.values import SloClass
from forebay.simulator.traces.drafts import Draft, RowOptions
from forebay.simulator.traces.records import Record, read_records
from forebay.simulator.workload.base import Bools, Ints, Workload
from forebay.simulator.workload.streams import stream

UNANSWERED = ("draw", "drop", "keep")
STATUSES = {one.name.lower(): one for one in RequestStatus}
CLASSES = {one.name.lower(): one for one in SloClass}
TEXTS = {"tenant": "default", "region": "local", "application": ""}
"""The texts of a record, with what an empty one means."""


@dataclass(frozen=True, slots=True)
class RequestLog(RowOptions):
    """JSON lines as `forebay export requests` writes them; `to_line` documents the keys.

    Needed are model, arrival_us, prompt_tokens and response_tokens; status, slo_class, tenant, region, application and
    censored are read where they are there, and the rest is left alone. An answer that was cut at its limit (censored)
    is cut there again.

    Requests that got no full answer are traffic too, but nobody knows how long their answers would have been:
    `unanswered` draws a length from the answered requests of the same model and application, or else the same model,
    by `seed` ("draw"), leaves them out ("drop"), or takes the tokens that came ("keep").
    """

    unanswered: str = "draw"

    def __post_init__(self) -> None:
        RowOptions.__post_init__(self)
        if self.unanswered not in UNANSWERED:
            raise ValueError(f"unanswered must be one of {', '.join(UNANSWERED)}, not {self.unanswered!r}")

    def read(self, path: Path) -> Workload:
        """The requests of the log; raises ConfigError naming the line of a bad row."""
        rows = _Rows()
        for record in read_records(path):
            rows.take(record)
        if not rows.numbers["arrival_us"]:
            raise ConfigError(f"{path} has no rows; was there traffic before it was exported?")
        columns = {name: np.array(values, dtype=np.int64) for name, values in rows.numbers.items()}
        unanswered = columns.pop("status") != RequestStatus.OK
        outputs, note = self._outputs(path, columns, unanswered)
        cut = (columns.pop("censored") == 1) & ~unanswered
        columns["output_tokens_max"] = np.where(cut, np.maximum(outputs, 1), 0)
        draft = Draft(
            path,
            columns.pop("arrival_us"),
            columns.pop("prompt_tokens"),
            outputs,
            columns=columns,
            names={f"{name}s": tuple(known) for name, known in rows.names.items()},
            notes=(note,) if note else (),
            first_line=1,
            kept=~unanswered if self.unanswered == "drop" else None,
        )
        return draft.workload(self)

    def _outputs(self, path: Path, columns: dict[str, Ints], unanswered: Bools) -> tuple[Ints, str]:
        outputs = columns.pop("response_tokens")
        if not unanswered.any():
            return outputs, ""
        count = f"{path.name}: {int(unanswered.sum())} requests without a full answer"
        if self.unanswered != "draw":
            return outputs, f"{count} {'left out' if self.unanswered == 'drop' else 'taken as far as they came'}"
        if unanswered.all():
            raise ConfigError(f'{path}: no request was answered, so no length can be drawn; set unanswered = "keep"')
        return self._drawn(outputs, columns, unanswered), f"{count} take the length of another, seed {self.seed}"

    def _drawn(self, outputs: Ints, columns: dict[str, Ints], unanswered: Bools) -> Ints:
        """Lengths for the unanswered, from the closest kin that has any: model and application, model, or all."""
        rng = stream(self.seed, "unanswered")
        drawn = outputs.copy()
        kinds = columns["model"] * (int(columns["application"].max()) + 1) + columns["application"]
        missing = unanswered.copy()
        for kin in (kinds, columns["model"], np.zeros_like(kinds)):
            answered = np.flatnonzero(~unanswered)
            answered = answered[np.argsort(kin[answered], kind="stable")]
            rows = np.flatnonzero(missing)
            low, high = (np.searchsorted(kin[answered], kin[rows], side=side) for side in ("left", "right"))
            found = high > low
            places = (low + (rng.random(len(rows)) * (high - low)).astype(np.int64))[found]
            drawn[rows[found]] = outputs[answered[places]]
            missing[rows[found]] = False
        return drawn


class _Rows:
    """The columns as lists, and the names that they index, in order of appearance."""

    def __init__(self) -> None:
        keys = ("arrival_us", "prompt_tokens", "response_tokens", "status", "slo_class", "censored", "model", *TEXTS)
        self.numbers: dict[str, list[int]] = {key: [] for key in keys}
        self.names: dict[str, dict[str, int]] = {key: {} for key in ("model", *TEXTS)}

    def take(self, record: Record) -> None:
        """Adds the record; raises ConfigError where a value is not what it should be."""
        numbers = self.numbers
        numbers["arrival_us"].append(record.integer("arrival_us"))
        numbers["prompt_tokens"].append(record.count("prompt_tokens"))
        numbers["response_tokens"].append(record.count("response_tokens"))
        numbers["status"].append(_member(record, "status", STATUSES, RequestStatus.OK))
        numbers["slo_class"].append(_member(record, "slo_class", CLASSES, SloClass.INTERACTIVE_NORMAL))
        numbers["censored"].append(int(record.flag("censored")) if "censored" in record else 0)
        self._name("model", record.text("model"), record)
        for key, empty in TEXTS.items():
            self._name(key, (record.text(key) if key in record else "") or empty, record)

    def _name(self, key: str, name: str, record: Record) -> None:
        if key == "model" and not name:
            raise record.wrong(key, "a name that is not empty")
        known = self.names[key]
        self.numbers[key].append(known.setdefault(name, len(known)))


def _member(record: Record, key: str, known: Mapping[str, IntEnum], otherwise: IntEnum) -> int:
    if key not in record:
        return int(otherwise)
    name = record.text(key)
    if name not in known:
        raise record.wrong(key, f"one of {', '.join(known)}")
    return int(known[name])


def to_line(record: RequestRecord) -> str:
    """One line of the log: the fields of `RequestRecord` by their names, those of `predicted_length` within it.

    Times are microseconds, `arrival_us` since 1970; `status` and `slo_class` are names in lower case such as "ok" and
    "interactive_normal"; what does not exist is null. The text of a prompt is not there.
    """
    values: dict[str, Any] = {one.name: getattr(record, one.name) for one in fields(record)}
    values["status"], values["slo_class"] = record.status.name.lower(), record.slo_class.name.lower()
    values["predicted_length"] = asdict(record.predicted_length) if record.predicted_length else None
    return json.dumps(values, ensure_ascii=False)
