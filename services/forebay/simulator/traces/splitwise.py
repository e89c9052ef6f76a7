"""Reads request traces in the formats of splitwise-sim and of SageServe, which grew out of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forebay.core.errors import ConfigError
from forebay.core.values import SloClass
from forebay.simulator.traces.drafts import Draft, RowOptions
from forebay.simulator.traces.fields import Kind
from forebay.simulator.traces.table import LINE_OF_FIRST_ROW, Table, read_table
from forebay.simulator.workload.base import Bools, Workload

GENERATIVE = 2
"""The request type of language models; others are of workloads that it has given up."""
SPLITWISE_COLUMNS = {
    "request_id": Kind.TEXT,
    "request_type": Kind.COUNT,
    "application_id": Kind.TEXT,
    "arrival_timestamp": Kind.SECONDS,
    "batch_size": Kind.COUNT,
    "prompt_size": Kind.COUNT,
    "token_size": Kind.COUNT,
}
SAGESERVE_COLUMNS = {
    "request_type": Kind.COUNT,
    "regions": Kind.TEXT,
    "model_type": Kind.NAME,
    "workload_type": Kind.TEXT,
    "arrival_timestamp": Kind.SECONDS,
    "batch_size": Kind.COUNT,
    "prompt_size": Kind.COUNT,
    "token_size": Kind.COUNT,
}
SAGESERVE_OPTIONAL = {"client_tenant": Kind.TEXT, "scenario": Kind.TEXT, "sla": Kind.SECONDS}
REGIONS = {"0": "westus", "1": "centralus", "2": "eastus"}
"""SageServe's numbers of regions; a request names them in the order in which it would go there."""
WORKLOADS = ("prod", "dev")


@dataclass(frozen=True, slots=True)
class Splitwise(RowOptions):
    """CSV with request_id, request_type (2), application_id, arrival_timestamp (s), batch_size (1), prompt_size,
    token_size (Mutinifni/splitwise-sim). One `model` gets all; the application is `application_id`."""

    model: str = "model"

    def read(self, path: Path) -> Workload:
        """The trace; raises ConfigError naming the line of a bad row."""
        table = read_table(path, SPLITWISE_COLUMNS)
        names = {"models": (self.model,), "applications": table.names("application_id")}
        return _draft(table, {"application": table["application_id"]}, names).workload(self)


@dataclass(frozen=True, slots=True)
class SageServe(RowOptions):
    """CSV of SageServe (shashwatj07/SageServe): Splitwise's columns with regions, model_type, workload_type and more.

    A request belongs to the first of its `regions` ("012" is westus, then centralus, then eastus). Production traffic
    ("prod") gets `prod_class`; development traffic ("dev") is deferred, with `sla` seconds as its deadline where the
    column is there. `client_tenant` and `scenario` become tenant and application.
    """

    prod_class: str = "interactive_fast"

    def __post_init__(self) -> None:
        RowOptions.__post_init__(self)
        if self.prod_class not in {one.name.lower() for one in SloClass}:
            raise ValueError(f"prod_class must be one of {', '.join(one.name.lower() for one in SloClass)}")

    def read(self, path: Path) -> Workload:
        """The trace; raises ConfigError naming the line of a bad row."""
        table = read_table(path, SAGESERVE_COLUMNS, SAGESERVE_OPTIONAL)
        dev = self._is_dev(table)
        columns: dict[str, Any] = {
            "model": table["model_type"],
            "slo_class": np.where(dev, int(SloClass.DEFERRED), int(SloClass[self.prod_class.upper()])),
        }
        names = {"models": table.names("model_type")}
        columns["region"], names["regions"] = _regions(table)
        if "sla" in table:
            columns["deadline_us"] = np.where(dev, table["sla"], 0)
        for column, source in (("tenant", "client_tenant"), ("application", "scenario")):
            if source in table:
                columns[column], names[f"{column}s"] = table[source], table.names(source)
        return _draft(table, columns, names).workload(self)

    def _is_dev(self, table: Table) -> Bools:
        known = table.names("workload_type")
        places = [WORKLOADS.index(name) if name in WORKLOADS else -1 for name in known]
        kinds = np.array(places)[table["workload_type"]]
        _need(table, kinds >= 0, "workload_type must be prod or dev")
        dev: Bools = kinds == WORKLOADS.index("dev")
        return dev


def _regions(table: Table) -> tuple[Any, tuple[str, ...]]:
    names = tuple(REGIONS.values())
    first = [name.strip()[:1] for name in table.names("regions")]
    places = [names.index(REGIONS[one]) if one in REGIONS else -1 for one in first]
    column = np.array(places)[table["regions"]]
    _need(table, column >= 0, "regions must be digits from 0 to 2 in order of preference, such as 012")
    return column, names


def _draft(table: Table, columns: dict[str, Any], names: dict[str, tuple[str, ...]]) -> Draft:
    _need(table, table["request_type"] == GENERATIVE, f"request_type must be {GENERATIVE}: a generative request")
    _need(table, table["batch_size"] == 1, "batch_size must be 1; write each request on a row of its own")
    return Draft(
        table.path,
        table["arrival_timestamp"],
        table["prompt_size"],
        table["token_size"],
        columns=columns,
        names=names,
    )


def _need(table: Table, holds: Bools, complaint: str) -> None:
    if not holds.all():
        raise ConfigError(f"{table.path}:{int(np.argmin(holds)) + LINE_OF_FIRST_ROW}: {complaint}")
