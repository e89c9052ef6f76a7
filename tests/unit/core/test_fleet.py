import json
from dataclasses import asdict

import pytest

from forebay.core.fleet import instance_of
from forebay.core.values import Batching, Instance, InstanceRole, InstanceState

KEPT = Instance("a/m", "m", "a:1", "a", state=InstanceState.READY, role=InstanceRole.BATCH, batching=Batching.STATIC)


def test_an_instance_survives_json() -> None:
    read = instance_of(json.loads(json.dumps(asdict(KEPT))))
    assert read == KEPT
    assert (read.state, read.role, read.batching) == (InstanceState.READY, InstanceRole.BATCH, Batching.STATIC)
    assert isinstance(read.role, InstanceRole)


def test_a_record_from_before_a_field_was_there_takes_its_default() -> None:
    values = asdict(KEPT)
    del values["role"], values["batching"]
    assert instance_of(values).role is InstanceRole.MIXED


def test_unknown_fields_and_numbers_are_refused() -> None:
    with pytest.raises(TypeError):
        instance_of({**asdict(KEPT), "colour": "red"})
    with pytest.raises(ValueError, match="9"):
        instance_of({**asdict(KEPT), "role": 9})
