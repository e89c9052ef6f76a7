"""What the service and the process that fits tell each other."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from forebay.predictor.policy.forecaster import Forecaster, ForecastFailed
from forebay.predictor.traffic.learned import Learned, learn
from forebay.predictor.traffic.refit.frames import HEAD, FrameError, pack, sizes, unpack
from forebay.predictor.traffic.series import Series
from forebay.predictor.traffic.tracks import Stopwatch

OURS = "forebay.predictor"


@dataclass(frozen=True, slots=True)
class Task:
    """A series to fit a forecaster to, and the farthest lead at which its errors matter."""

    policy: Forecaster
    series: Series
    lead_max: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A task that came to nothing."""

    text: str


def frames_of(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The frames of a stream until it ends. Raises FrameError for anything else."""
    while head := stream.read(HEAD.size):
        text_count, array_count = sizes(head)
        yield stream.read(text_count), stream.read(array_count)


def answer(text: bytes, arrays: bytes, modules: Collection[str], stopwatch: Stopwatch) -> bytes:
    """The frame that answers a task's frame; never raises for what a forecaster does."""
    try:
        task = unpack(text, arrays, modules)
        return pack(learn(task.policy, task.series, task.lead_max, stopwatch))
    except (ForecastFailed, FrameError) as error:
        return pack(Failed(str(error)))


def outcome(text: bytes, arrays: bytes, modules: Collection[str]) -> Learned:
    """What an answering frame says. Raises ForecastFailed where the task came to nothing, FrameError for nonsense."""
    found = unpack(text, arrays, modules)
    if isinstance(found, Failed):
        raise ForecastFailed(found.text)
    if not isinstance(found, Learned):
        raise FrameError(f"{type(found).__name__} answers no task")
    return found
