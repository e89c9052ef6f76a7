"""Takes deferred work in and gives results out, for one tenant at a time; both protocols go through here."""

import re
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import BinaryIO, TypeVar

from forebay.core.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted
from forebay.core.units import US_PER_S
from forebay.gateway.config import Config
from forebay.gateway.deferred.access import Access
from forebay.gateway.deferred.reading import Reader, Rules
from forebay.gateway.deferred.store import Store
from forebay.gateway.deferred.values import STATES_OF, File, FileKind, Job, Line, NewRequest, RequestState
from forebay.gateway.fleet import Fleet
from forebay.gateway.intake import Intake
from forebay.wire.clock import Clock

T = TypeVar("T")
_PIECE_BYTES = 1024 * 1024
_LINE_COUNT = 500
_WINDOW = re.compile(r"([1-9]\d{0,8})([smhd])")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PAIR_COUNT_MAX, _KEY_LENGTH_MAX, _VALUE_LENGTH_MAX = 16, 64, 512
_NAME_LENGTH_MAX = 255
_KEY_MAX = 128


class Desk:
    """What clients may do with deferred work. What a call acknowledges is in the store.

    Raises Unavailable while the store is away: then nothing is taken. `changed` is called when there is something new
    to do.
    """

    def __init__(
        self,
        access: Access,
        fleet: Fleet,
        intake: Intake,
        config: Config,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._access = access
        self._fleet = fleet
        self._intake = intake
        self._config = config
        self._clock = clock
        self._changed = changed

    async def keep_file(self, tenant: str, filename: str, content: BinaryIO, expires_s: int | None = None) -> File:
        """Keeps an input file."""
        now_us = self._clock()
        kept_us = self._config.deferred.input_retention_us
        expires_us = now_us + (min(kept_us, expires_s * US_PER_S) if expires_s else kept_us)
        name = "".join(one for one in filename if one.isprintable() and one not in "/\\")[:_NAME_LENGTH_MAX]
        file = File(f"file-{uuid.uuid4().hex}", tenant, FileKind.INPUT, name or "input.jsonl", 0, now_us, expires_us)
        pieces = iter(lambda: content.read(_PIECE_BYTES), b"")
        return await self._access.call(lambda store: store.keep_file(file, pieces))

    async def file(self, tenant: str, file_id: str) -> File:
        """A file. Raises NotFound."""
        _check_name("file", file_id)
        return _found(await self._access.call(lambda store: store.file(tenant, file_id)), "file", file_id)

    async def files(
        self, tenant: str, kinds: Collection[FileKind], after: str, limit: int, ascending: bool
    ) -> list[File]:
        """Files in the order of creation, beyond the file `after`. Raises NotFound for one that is unknown."""
        place = (await self.file(tenant, after)).sequence if after else 0
        return await self._access.call(lambda store: store.files(tenant, kinds, place, limit, ascending))

    async def delete_file(self, tenant: str, file_id: str) -> None:
        """Deletes a file and what it holds; requests that were made of it go on. Raises NotFound."""
        _check_name("file", file_id)
        if not await self._access.call(lambda store: store.delete_file(tenant, file_id)):
            raise _unknown("file", file_id)

    async def content(self, file: File) -> AsyncIterator[bytes]:
        """What a file holds, in pieces."""
        if file.kind is not FileKind.INPUT:
            async for line in self.lines(file.job_id, STATES_OF[file.kind]):
                yield line.text.encode() + b"\n"
            return
        number = 0
        while (piece := await self._access.call(lambda store, at=number: store.piece(file.file_id, at))) is not None:  # type: ignore[misc]
            yield piece
            number += 1

    async def lines(self, job_id: str, states: Collection[RequestState], after: int = 0) -> AsyncIterator[Line]:
        """The lines of requests in these states, in the order of the input, of those whose number is above `after`."""
        while True:
            some = await self._access.call(lambda store, at=after: store.lines(job_id, states, at, _LINE_COUNT))  # type: ignore[misc]
            for line in some:
                yield line
            if len(some) < _LINE_COUNT:
                return
            after = some[-1].number

    async def line(self, job_id: str, custom_id: str) -> Line | None:
        """The line of one request; None while it has none."""
        if not custom_id.isprintable():
            return None
        return await self._access.call(lambda store: store.line(job_id, custom_id))

    def reader(self, endpoint: str) -> Reader:
        """What checks the requests of a new job. Raises InvalidArgument for an endpoint that is not offered."""
        config = self._config
        return Reader(
            Rules(
                endpoint=endpoint,
                requests_max=config.deferred.requests_max,
                body_bytes_max=config.body_bytes_max,
                tokens_max_default=config.tokens_max_default,
                count_tokens=self._intake.count,
                check_model=self._check_model,
            )
        )

    async def submit_file(self, job: Job, key: str) -> Job:
        """Makes a job of the requests in its input file. Raises NotFound, and InvalidArgument for a bad request."""
        reader = self.reader(job.endpoint)
        _check_name("file", job.input_file_id, "input_file_id")
        found = await self._access.call(lambda store: store.file(job.tenant, job.input_file_id))
        if found is None or found.kind is not FileKind.INPUT:
            raise _unknown("file", job.input_file_id, "input_file_id")
        return await self.submit(job, lambda store: reader.from_pieces(_pieces(store, found)), key)

    async def submit(self, job: Job, requests: Callable[[Store], Iterable[NewRequest]], key: str) -> Job:
        """Keeps a job with its requests and starts it; a job that this key made before is returned instead.

        Raises AlreadyExists where that one is another, ResourceExhausted where the tenant has too many open jobs.
        """
        if len(key) > _KEY_MAX or not key.isprintable():
            raise InvalidArgument(f"the request's id must be at most {_KEY_MAX} printable characters")
        kept = await self._access.call(lambda store: store.job_of(job.tenant, key))
        if kept is None:
            await self._check_room(job.tenant)
            kept = await self._access.call(lambda store: store.keep_job(job, requests(store), key, self._clock()))
        if (kept.endpoint, kept.input_file_id) != (job.endpoint, job.input_file_id):
            raise AlreadyExists("this request id belongs to another job; use a new one")
        self._changed()
        return kept

    def new_job(
        self,
        tenant: str,
        application: str,
        endpoint: str,
        window: str,
        metadata: Mapping[str, str],
        input_file_id: str = "",
    ) -> Job:
        """A job as it is asked for; nothing is kept yet. Raises InvalidArgument."""
        now_us, window_s = self._clock(), self._window_s(window)
        check_metadata(metadata)
        job_id, deadline_us = f"batch_{uuid.uuid4().hex}", now_us + window_s * US_PER_S
        return Job(
            job_id, tenant, endpoint, "", input_file_id, window_s, now_us, deadline_us, application, metadata=metadata
        )

    async def job(self, tenant: str, job_id: str) -> Job:
        """A job. Raises NotFound."""
        _check_name("batch", job_id)
        return _found(await self._access.call(lambda store: store.job(tenant, job_id)), "batch", job_id)

    async def jobs(self, tenant: str, after: str, limit: int) -> list[Job]:
        """Jobs, newest first, older than the job `after`. Raises NotFound for one that is unknown."""
        return await self.jobs_below(tenant, (await self.job(tenant, after)).sequence if after else 0, limit)

    async def jobs_below(self, tenant: str, sequence: int, limit: int) -> list[Job]:
        """Jobs, newest first, below a sequence; 0: from the newest."""
        return await self._access.call(lambda store: store.jobs(tenant, sequence, limit))

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """Ends a job without the requests that have no answer yet; one that ended stays as it is. Raises NotFound."""
        _check_name("batch", job_id)
        found = await self._access.call(lambda store: store.cancel(tenant, job_id, self._clock()))
        self._changed()
        return _found(found, "batch", job_id)

    async def _check_room(self, tenant: str) -> None:
        jobs, _ = await self._access.call(lambda store: store.open_jobs(self._clock()))
        most = self._config.deferred.open_jobs_max
        if sum(job.tenant == tenant for job in jobs) >= most:
            raise ResourceExhausted(
                f"{most} jobs are open, the most that one tenant may have; wait for one to end, or cancel one",
                reason="TOO_MANY_JOBS",
                retry_after_us=60 * US_PER_S,
            )

    def _check_model(self, model: str) -> None:
        # Without a scheduler no fleet is known yet: the job is taken, and waits for the model until its deadline.
        if self._fleet.models() and not self._fleet.knows(model):
            raise self._fleet.unknown(model)

    def _window_s(self, window: str) -> int:
        config, match = self._config.deferred, _WINDOW.fullmatch(window)
        seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
        if not config.completion_s_min <= seconds <= config.completion_s_max:
            shortest, longest = window_text(int(config.completion_s_min)), window_text(int(config.completion_s_max))
            text = f"must be a time such as 24h, 90m or 7d, from {shortest} to {longest}"
            raise InvalidArgument(f"completion_window {text}", violations={"completion_window": text})
        return seconds


def window_text(seconds: int) -> str:
    """A window in its largest whole unit, days from two on: 24h is OpenAI's own."""
    for unit in ("d", "h", "m"):
        if seconds % _SECONDS[unit] == 0 and (unit != "d" or seconds > _SECONDS["d"]):
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Raises InvalidArgument where there are more or longer pairs than OpenAI allows."""
    if len(metadata) > _PAIR_COUNT_MAX:
        text = f"must have at most {_PAIR_COUNT_MAX} pairs"
        raise InvalidArgument(f"metadata {text}", violations={"metadata": text})
    for key, value in metadata.items():
        if not key or len(key) > _KEY_LENGTH_MAX or len(value) > _VALUE_LENGTH_MAX or _is_broken(key + value):
            text = f"must have keys of 1 to {_KEY_LENGTH_MAX} and values of up to {_VALUE_LENGTH_MAX} characters"
            raise InvalidArgument(f"metadata {text}", violations={"metadata": text})


def _is_broken(text: str) -> bool:
    """Whether it holds half of a surrogate pair."""
    return any(0xD800 <= ord(one) < 0xE000 for one in text)


def _pieces(store: Store, file: File) -> Iterable[bytes]:
    """The file's pieces. Raises NotFound where it is deleted while it is read: half a job must not be taken."""
    number = byte_count = 0
    while (piece := store.piece(file.file_id, number)) is not None:
        yield piece
        number, byte_count = number + 1, byte_count + len(piece)
    if byte_count != file.byte_count:
        raise _unknown("file", file.file_id, "input_file_id")


def _check_name(kind: str, name: str, param: str = "") -> None:
    """Raises NotFound for what cannot be a name of ours, before a database stumbles over it."""
    if not _NAME.fullmatch(name):
        raise _unknown(kind, name, param)


def _found(value: T | None, kind: str, name: str) -> T:
    if value is None:
        raise _unknown(kind, name)
    return value


def _unknown(kind: str, name: str, param: str = "") -> NotFound:
    text = f"no {kind} {name[:200]!r} exists: it is misspelt, deleted, or another tenant's"
    return NotFound(text, reason=f"{kind.upper()}_NOT_FOUND", violations={param or f"{kind}_id": text})
