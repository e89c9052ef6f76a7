"""Style that no linter checks, checked here."""

import ast
import dataclasses
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from lmaas.autoscaler.v1 import autoscaler_service_pb2
from lmaas.deferred.v1 import deferred_service_pb2
from lmaas.metrics.v1 import metrics_service_pb2
from lmaas.predictor.v1 import predictor_service_pb2
from lmaas.scheduler.v1 import scheduler_service_pb2

from forebay.autoscaler.policy.autoscaler import AUTOSCALERS
from forebay.core.config import from_mapping
from forebay.core.errors import ConfigError
from forebay.core.instance.batcher import BATCHERS
from forebay.scheduler.policy import KINDS, build
from forebay.scheduler.policy.systems import SYSTEMS

ROOT = Path(__file__).parents[1]
SERVICES = ROOT / "services" / "forebay"
SOURCES = sorted(SERVICES.rglob("*.py"))
PARTS = ["predictor", "scheduler", "autoscaler", "metrics", "gateway", "emulator"]
CONTRACTS = [
    scheduler_service_pb2,
    predictor_service_pb2,
    autoscaler_service_pb2,
    metrics_service_pb2,
    deferred_service_pb2,
]
MODE_FLAG = re.compile(
    r"^(is_|in_)?(simulated|simulation|simulating|dry_run|advisory|advise_only|live_mode|test_mode)$"
)
HISTORY = re.compile(r"(?<![&\w])#\d{1,5}\b|TODO|FIXME|XXX|\bpreviously\b|\bno longer\b|/(?:work|tmp)/")


def trees(files: list[Path]) -> Iterator[tuple[Path, ast.Module]]:
    for file in files:
        yield file.relative_to(ROOT), ast.parse(file.read_text())


def methods() -> list[MethodDescriptor]:
    found: list[ServiceDescriptor] = [
        service for module in CONTRACTS for service in module.DESCRIPTOR.services_by_name.values()
    ]
    return [method for service in found for method in service.methods]


def names_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id


def test_no_name_says_which_world_it_is_in() -> None:
    found = [(str(file), name) for file, tree in trees(SOURCES) for name in names_of(tree) if MODE_FLAG.match(name)]
    assert not found


def test_every_generator_of_randomness_is_seeded() -> None:
    found = []
    for file, tree in trees(SOURCES):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and not node.args and not node.keywords:
                called = ast.unparse(node.func)
                if called.split(".")[-1] in ("default_rng", "Random"):
                    found.append(f"{file}:{node.lineno}")
    assert not found


def test_prose_is_in_the_present_and_names_nothing_outside() -> None:
    files = [*SOURCES, *ROOT.glob("protos/lmaas/**/*.proto"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("*.md")]
    files += [*ROOT.glob("docs/**/*.md"), *ROOT.glob("compose/**/*.md"), *ROOT.glob("clients/python/lmaas_client/*.py")]
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if HISTORY.search(line)
    ]
    assert not found


def test_servicers_hold_no_try() -> None:
    files = sorted(SERVICES.glob("*/servicer.py"))
    assert files
    found = [f"{f}:{node.lineno}" for f, tree in trees(files) for node in ast.walk(tree) if isinstance(node, ast.Try)]
    assert not found


def test_nothing_pickles_and_no_test_patches() -> None:
    banned = {"pickle", "shelve", "marshal", "joblib", "unittest.mock", "mock", "pytest_mock"}
    found = []
    for file, tree in trees([*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]):
        for node in ast.walk(tree):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{file}: {name}" for name in imported if name in banned]
    assert not found


def test_every_engine_and_policy_has_its_unit_tests() -> None:
    engines = [file for part in PARTS for file in SERVICES.glob(f"{part}/engine.py")]
    missing = [
        str(file) for file in engines if not (ROOT / "tests/unit" / file.parent.name / "test_engine.py").exists()
    ]
    for part in PARTS:
        tested = "".join(file.read_text() for file in (ROOT / "tests").rglob("*.py") if part in str(file))
        for file in SERVICES.glob(f"{part}/policy/*/*.py"):
            if file.stem not in ("__init__", "base") and not any(
                node.name in tested for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)
            ):
                missing.append(str(file.relative_to(ROOT)))
    assert not missing


def test_every_policy_of_scheduler_and_autoscaler_and_every_batcher_has_its_page() -> None:
    index = (ROOT / "docs" / "policies" / "README.md").read_text()
    named = {*SYSTEMS, *BATCHERS, *AUTOSCALERS, *(name for policies in KINDS.values() for name in policies)}
    assert sorted(name for name in named if f"`{name}`" not in index) == []


def test_the_protocol_of_a_policy_kind_is_small() -> None:
    found = []
    for file, tree in trees(sorted(SERVICES.glob("*/policy/*/base.py"))):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and "Protocol" in [ast.unparse(base) for base in node.bases]:
                length = (node.end_lineno or 0) - node.lineno + 1
                found += [f"{file} {node.name}: {length} lines"] if length > 20 else []
    assert not found


@pytest.mark.parametrize("part", PARTS)
def test_a_misspelt_key_fails_in_every_configuration(part: str) -> None:
    config = importlib.import_module(f"forebay.{part}.config").Config
    assert dataclasses.is_dataclass(config)
    name = dataclasses.fields(config)[0].name
    with pytest.raises(ConfigError, match=f"did you mean '{name}'"):
        from_mapping(config, {name + "x": 1}, part)


def test_protos_use_double_for_real_numbers() -> None:
    found = [
        str(file)
        for file in ROOT.glob("protos/lmaas/**/*.proto")
        if re.search(r"^\s*(optional )?float ", file.read_text(), re.M)
    ]
    assert not found


def test_every_call_says_how_it_may_be_repeated() -> None:
    unknown = descriptor_pb2.MethodOptions.IDEMPOTENCY_UNKNOWN
    found = [method.full_name for method in methods() if method.GetOptions().idempotency_level == unknown]
    assert found == ["lmaas.scheduler.v1.SchedulerService.Schedule"]


def test_every_write_names_itself() -> None:
    # Place and Report name the request or lease, a heartbeat only renews, events have ids of their own.
    own = {"Place", "Report", "HeartbeatInstance", "ReportEvents"}
    level = descriptor_pb2.MethodOptions.IDEMPOTENT
    writes = [method for method in methods() if method.GetOptions().idempotency_level == level]
    found = [method.name for method in writes if "request_id" not in method.input_type.fields_by_name]
    assert set(found) == own


def test_every_list_is_paged_or_small() -> None:
    small = ("ListQueues", "ListShadows")
    lists = [method for method in methods() if method.name.startswith("List") and method.name not in small]
    assert lists
    found = [method.name for method in lists if "page_token" not in method.input_type.fields_by_name]
    assert not found


def test_every_file_that_the_documents_name_exists() -> None:
    named = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|toml|sh|proto))`")
    bases = (ROOT, SERVICES, ROOT / "protos")
    missing = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        paths = [path for path in named.findall(page.read_text()) if "my_" not in path and not path.startswith(".")]
        missing += [f"{page.name}: {path}" for path in paths if not any((base / path).exists() for base in bases)]
    assert not missing


EXAMPLES = ["README.md", *(f"services/forebay/{part}/example.toml" for part in ("autoscaler", "predictor"))]


@pytest.mark.parametrize("page", EXAMPLES)
def test_the_settings_that_documents_show_are_taken(page: str) -> None:
    text = (ROOT / page).read_text()
    examples = re.findall(r"```toml\n(.*?)```", text, re.S) or [text]
    tables = [table for example in examples for table in tomllib.loads(example).items()]
    assert tables
    for part, table in tables:
        made = from_mapping(importlib.import_module(f"forebay.{part}.config").Config, table, part)
        if part == "scheduler":
            build(made)
