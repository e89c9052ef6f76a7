"""Figures for a reader: few digits, the unit beside them, intervals where there are some."""

from forebay.simulator.statistics import Interval, Measure

NOTHING = "–"


def figure(value: float | None, unit: str = "") -> str:
    """A value with its unit: 98.2 %, 18 ms, 1.24 s, 2 m 5 s, 12.3 h."""
    if value is None:
        return NOTHING
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "s":
        return seconds(value)
    return f"{number(value)} {unit}".strip()


def estimate(value: Interval | None, measure: Measure) -> str:
    """A mean with half its interval: 98.2 ± 0.3 %."""
    if value is None:
        return NOTHING
    if not value.half:
        return figure(value.mean, measure.unit)
    if measure.unit == "%":
        decimals = 1 if value.half >= 0.0005 else 2
        return f"{100 * value.mean:.{decimals}f} ± {100 * value.half:.{decimals}f} %"
    if measure.unit == "s":
        scale, unit = (1000.0, "ms") if value.mean < 1 else (1.0, "s")
        return f"{_around(scale * value.mean, scale * value.half)} {unit}"
    return f"{_around(value.mean, value.half)} {measure.unit}".strip()


def _around(mean: float, half: float) -> str:
    """A mean ± half its interval, which has no more decimals than the mean unless it were 0."""
    text = number(mean)
    decimals = len(text.partition(".")[2])
    shown = round(half, decimals)
    return f"{text} ± {f'{shown:,.{decimals}f}' if shown else number(half, 1)}"


def seconds(value: float) -> str:
    """A duration: 18 ms, 1.24 s, 2 m 5 s, 3 h 20 m."""
    if abs(value) < 0.9995:
        return f"{number(1000 * value)} ms"
    if abs(value) < 59.95:
        return f"{number(value)} s"
    if abs(value) < 3599.5:
        whole = round(value)
        return f"{whole // 60} m {whole % 60} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60} m"


def number(value: float, digits: int = 3) -> str:
    """A plain number with so many significant digits, thousands apart, never in powers of ten."""
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return f"{float(text):f}".rstrip("0").rstrip(".") if "e" in text else text
