"""The values of deferred work: files, jobs, requests and their answers, and the actions of its engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from forebay.core.errors import ForebayError
from forebay.core.values import WakeAt

Key: TypeAlias = tuple[str, int]
"""Names one request: its job, and its number in it, from 1 in the order of the input."""


class JobStatus(IntEnum):
    """Where a job stands; names are OpenAI's, numbers are those of the contract."""

    VALIDATING = 1
    IN_PROGRESS = 2
    FINALIZING = 3
    COMPLETED = 4
    FAILED = 5
    EXPIRED = 6
    CANCELLING = 7
    CANCELLED = 8


OPEN = (JobStatus.IN_PROGRESS, JobStatus.FINALIZING, JobStatus.CANCELLING)
"""Work is left to do on these."""
ENDING = (JobStatus.FINALIZING, JobStatus.CANCELLING)
"""Nothing of these is begun; what has no answer gets an error."""


class RequestState(IntEnum):
    """Where a request stands; one that is not pending keeps its state and its line for ever."""

    PENDING = 0
    ANSWERED = 1
    FAILED = 2
    EXPIRED = 3
    CANCELLED = 4


class FileKind(IntEnum):
    """What a file holds."""

    INPUT = 1
    OUTPUT = 2
    ERRORS = 3


STATES_OF = {
    FileKind.OUTPUT: (RequestState.ANSWERED,),
    FileKind.ERRORS: (RequestState.FAILED, RequestState.EXPIRED, RequestState.CANCELLED),
}
"""The requests whose lines make up a file."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a tenant. Inputs are kept in pieces; results are the lines of their job's requests."""

    file_id: str
    tenant: str
    kind: FileKind
    filename: str
    byte_count: int
    created_us: int
    expires_us: int
    job_id: str = ""
    sequence: int = 0
    """Place in the order of creation, given by the store."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job; times are in microseconds, 0 where there was none yet."""

    job_id: str
    tenant: str
    endpoint: str
    model: str
    input_file_id: str
    window_s: int
    created_us: int
    deadline_us: int
    application: str = ""
    status: JobStatus = JobStatus.VALIDATING
    metadata: Mapping[str, str] = field(default_factory=dict)
    total_count: int = 0
    completed_count: int = 0
    failed_count: int = 0
    """Requests that have an error in place of an answer, those that expired or were cancelled included."""
    prompt_tokens: int = 0
    """Of all requests, by estimate."""
    tokens_max: int = 0
    """Sum of the limits of all requests."""
    started_us: int = 0
    finalizing_us: int = 0
    cancelling_us: int = 0
    ended_us: int = 0
    output_file_id: str = ""
    error_file_id: str = ""
    sequence: int = 0
    """Place in the order of creation, given by the store."""

    @property
    def remaining_count(self) -> int:
        """Requests without an answer or an error."""
        return self.total_count - self.completed_count - self.failed_count


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request as it is submitted; `body` is JSON in ASCII, as the endpoint takes it."""

    number: int
    custom_id: str
    model: str
    body: str = field(repr=False)
    prompt_tokens: int = 0
    tokens_max: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """A request that a gateway has claimed."""

    job_id: str
    number: int
    custom_id: str
    body: str = field(repr=False)
    claim_count: int = 1
    """How often it has been claimed, this time included."""

    @property
    def key(self) -> Key:
        """Its name."""
        return self.job_id, self.number


@dataclass(frozen=True, slots=True)
class Line:
    """How a request ended: one line of a result file, JSON in ASCII without its newline."""

    job_id: str
    number: int
    state: RequestState
    text: str = field(repr=False)

    @property
    def key(self) -> Key:
        """The request's name."""
        return self.job_id, self.number


@dataclass(frozen=True, slots=True)
class Poll:
    """Action: read the open jobs."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Action: claim up to so many requests of a job."""

    job_id: str
    count: int
    until_us: int


@dataclass(frozen=True, slots=True)
class Run:
    """Action: answer a request."""

    job: Job
    work: Work


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Action: make the request's line from this error; it is not tried again."""

    work: Work
    error: ForebayError


@dataclass(frozen=True, slots=True)
class Stop:
    """Action: break off what runs for these requests; nobody waits for it."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Renew:
    """Action: keep the claims on these requests."""

    keys: tuple[Key, ...]
    until_us: int


@dataclass(frozen=True, slots=True)
class Record:
    """Action: write how requests ended."""

    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class End:
    """Action: end a job that is answered, expired or cancelled."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """Action: ask what interactive traffic the model will get over the next windows."""

    model: str
    window_count: int


ToStore: TypeAlias = Poll | Claim | Renew | Record | End
Action: TypeAlias = ToStore | Run | GiveUp | Stop | Forecast | WakeAt
