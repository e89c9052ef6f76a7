"""How plots look: one colour a policy, text and lines in the page's own colours, light or dark."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from forebay.core.errors import ConfigError

PALETTE = (
    *("#3b82c4", "#d9822b", "#2a9d63", "#c4508f", "#7c6bc9", "#a8862a"),
    *("#d1495b", "#2aa5a0", "#7d8590", "#8c6d4f", "#6f9a1f", "#5bb0e0"),
)
"""Colours that are told apart on white and on near-black."""
WIDTH_PX_MIN = 560
"""Narrower windows scroll a plot instead of making it unreadable."""
DASHES = ("-", "--", ":", "-.")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_TEXT, _GRID, _PAPER = "#010203", "#030201", "#fdfcfb"
_STYLE: Any = {
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.titlecolor": _TEXT,
    "axes.edgecolor": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
}


def colours(policies: Sequence[str]) -> dict[str, str]:
    """The colour of each policy."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(policies)}


def dash(index: int) -> str:
    """The line style of a policy: another one once the colours are used up."""
    return DASHES[index // len(PALETTE) % len(DASHES)]


@contextmanager
def styled() -> Iterator[Any]:
    """matplotlib's pyplot-free figure class under our style; raises ConfigError where it is not installed."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("plots need matplotlib; install it with: pip install 'forebay[simulate]'") from error
    with matplotlib.rc_context(_STYLE):
        yield Figure


def to_svg(figure: Any, name: str) -> str:
    """The figure as SVG for a page: text and grid take the colours of what is around it; equal figures, equal text."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        buffer = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=metadata, bbox_inches="tight", pad_inches=0.05)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\n\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Two decimals of a point are more than an eye sees, and halve the file; texts stand outside of quotes.
    svg = re.sub(r'"[^"]*"', lambda value: _NUMBER.sub(_rounded, value[0]), svg)
    svg = re.sub(r'width="([\d.]+)pt" height="[\d.]+pt"', lambda size: _head(float(size[1]), name), svg, count=1)
    svg = svg.replace(_TEXT, "currentColor").replace(_GRID, "var(--grid)").replace(_PAPER, "var(--paper)")
    return _with_own_font(svg)


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _head(width_pt: float, name: str) -> str:
    width = round(width_pt * 4 / 3)
    size = f"max-width: {width}px; min-width: {min(width, WIDTH_PX_MIN)}px"
    return f'class="plot" role="img" aria-label="{name}" style="{size}"'


def stand_alone(svg: str) -> str:
    """The same SVG as a file of its own, dark on light."""
    for inherited, fixed in (("currentColor", "#24292f"), ("var(--grid)", "#d8dee4"), ("var(--paper)", "#ffffff")):
        svg = svg.replace(inherited, fixed)
    start = svg.index(">") + 1
    return f'{svg[:start]}\n <rect width="100%" height="100%" fill="#ffffff"/>{svg[start:]}'


def paper() -> str:
    """The colour of the page behind a plot."""
    return _PAPER


def _with_own_font(svg: str) -> str:
    return re.sub(
        r"(font: [^;\"']*?)'DejaVu Sans'[^;\"]*", r"\1Roboto, 'Noto Sans', 'DejaVu Sans', Arial, sans-serif", svg
    )
