"""The package as it is published."""

import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[1]
SERVICES = ("predictor", "scheduler", "autoscaler", "metrics", "deferred")


@pytest.mark.skipif(
    int(metadata.version("setuptools").partition(".")[0]) < 77, reason="run: .venv/bin/pip install 'setuptools>=77'"
)
def test_the_wheel_holds_the_verbs_the_stubs_their_types_and_the_licence(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(CLIENT, source, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__", "build"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(tmp_path), str(source)], check=True, timeout=300, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"lmaas_client/__init__.py", "lmaas_client/py.typed", "lmaas/py.typed"} <= set(names)
    for name in SERVICES:
        stub = f"lmaas/{name}/v1/{name}_service_pb2"
        assert {f"{stub}.py", f"{stub}.pyi", f"{stub}_grpc.py", f"{stub}_grpc.pyi"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests", "examples")) for name in names)
