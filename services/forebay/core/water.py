"""Filling valleys: the level to which work that can wait is poured over load that cannot."""

from collections.abc import Iterable


def water_level(spans: Iterable[tuple[float, float]], volume: float) -> float:
    """The level L where the sum of width x max(0, L - floor) over spans of (floor, width) is `volume`.

    With it the sum of both loads has the lowest peak that any plan can give it.
    """
    width = held = 0.0
    level = 0.0
    for floor, one in sorted(spans):
        if width and (floor * width - held) >= volume:
            break
        width += one
        held += floor * one
        level = (volume + held) / width
    return level
