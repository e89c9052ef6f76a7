"""Prints what an image needs to have installed: the dependencies of pyproject.toml, for a CPU or for a GPU."""

import sys
import tomllib
from pathlib import Path

RUNTIME = "onnxruntime-gpu"
VARIANTS = {"cpu": "onnxruntime", "cuda": "onnxruntime-gpu[cuda,cudnn]"}
"""What runs the predictors' models. The one for GPUs brings CUDA's libraries with it."""


def requirements(path: Path, variant: str, extras: list[str]) -> list[str]:
    """The requirements of the services and of these extras. Raises SystemExit for a name that does not exist."""
    project = tomllib.loads(path.read_text())["project"]
    known = project["optional-dependencies"]
    wrong = [f"VARIANT={variant}"] * (variant not in VARIANTS) + [f"EXTRAS={one}" for one in extras if one not in known]
    if wrong:
        raise SystemExit(f"error: {', '.join(wrong)}: VARIANT is one of {list(VARIANTS)}, EXTRAS of {list(known)}")
    wanted = [*project["dependencies"], *(line for extra in extras for line in known[extra])]
    return [line.replace(RUNTIME, VARIANTS[variant]) for line in wanted]


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]), sys.argv[2], sys.argv[3].replace(",", " ").split())))
