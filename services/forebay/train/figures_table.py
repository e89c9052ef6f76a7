"""The columns of a table of figures, whoever prints it: narrow enough for a terminal."""

import math

from forebay.train.evaluation import Figures

COLUMNS = ("predictor", "answers", "MAE", "acc-50", "acc-100", "tau", "pinball", "≤p90", "by tertile", "reserve")


def cells(row: Figures) -> tuple[str, ...]:
    """The cells of one predictor's row, in the order of `COLUMNS`."""
    tertiles = " ".join(_percent(share, unit="") for share in row.coverage_tertiles)
    return (
        row.name,
        f"{row.count:,}",
        _number(row.mae_tokens, 1),
        _percent(row.acc_50),
        _percent(row.acc_100),
        _number(row.tau, 2),
        _number(row.pinball_tokens, 1),
        _percent(row.coverage_p90, 1),
        tertiles,
        _number(row.reserve_ratio, 2),
    )


def _number(value: float, decimals: int) -> str:
    return "–" if math.isnan(value) else f"{value:,.{decimals}f}"


def _percent(share: float, decimals: int = 0, unit: str = "%") -> str:
    return "–" if math.isnan(share) else f"{100 * share:.{decimals}f}{unit}"
