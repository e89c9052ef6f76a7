"""Prints the sizes of our files and functions beside those of the codebases that we learn from."""

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[1]
OTHERS = """\
simpy            2,123    125 /   290 /   652    5 /  17 /  61
h11              2,568    153 /   369 /   659    7 /  39 /  64
cosmicpython       743     28 /    86 /   120    4 /  11 /  31
mini-sglang      8,081     69 /   193 /   501    5 /  26 / 215
vizier          44,714    133 /   586 / 1,445   10 /  41 / 224
Dynamo planner  26,665    171 /   602 / 1,352   12 /  48 / 573"""


def triple(lengths: list[int]) -> tuple[int, int, int]:
    """Median, 90th percentile and maximum."""
    ordered = sorted(lengths)
    return int(statistics.median(ordered)), ordered[int(0.9 * (len(ordered) - 1))], ordered[-1]


def main() -> None:
    """One line for each of our parts and one for each of theirs."""
    print(f"{'':16}{'lines':>6}  file median / p90 / max   function median / p90 / max")
    parts = sorted(path for path in (ROOT / "services/forebay").iterdir() if path.is_dir() and list(path.rglob("*.py")))
    for name, folders in [(path.name, [path]) for path in parts] + [("all of ours", parts)]:
        files = [file for folder in folders for file in folder.rglob("*.py")]
        lines = [len(file.read_text().splitlines()) for file in files]
        functions = [
            (node.end_lineno or 0) - node.lineno + 1
            for file in files
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ] or [0]
        sizes, spans = triple([count for count in lines if count > 1] or [0]), triple(functions)
        files_text = " / ".join(f"{size:5}" for size in sizes)
        print(f"{name:16}{sum(lines):6,}  {files_text}  {' / '.join(f'{span:3}' for span in spans)}")
    print(OTHERS)


if __name__ == "__main__":
    main()
