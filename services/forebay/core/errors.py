"""The one tree of errors; every leaf has a stable reason that clients can match."""

from collections.abc import Mapping
from typing import ClassVar


class ForebayError(Exception):
    """Base of all errors that are somebody's to mend; anything else is a bug and surfaces as INTERNAL.

    `reason` is stable and UPPER_SNAKE_CASE; the message is one sentence that says what to do.
    """

    reason: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        retry_after_us: int | None = None,
        violations: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = reason or self.reason
        self.retry_after_us = retry_after_us
        self.violations = dict(violations or {})


class InvalidArgument(ForebayError):
    """The request breaks a rule; `violations` maps each field to what is wrong with it."""

    reason = "INVALID_ARGUMENT"


class ConfigError(InvalidArgument):
    """A configuration file or command line breaks a rule."""

    reason = "CONFIG_INVALID"


class NotFound(ForebayError):
    """What the request names does not exist."""

    reason = "NOT_FOUND"


class ModelUnknown(NotFound):
    """No instance of the model has ever been part of the fleet."""

    reason = "MODEL_UNKNOWN"


class AlreadyExists(ForebayError):
    """The name is taken by something else."""

    reason = "ALREADY_EXISTS"


class Unauthenticated(ForebayError):
    """Nobody knows who asks; a request needs a key."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(ForebayError):
    """It is known who asks, and it is not theirs."""

    reason = "PERMISSION_DENIED"


class FailedPrecondition(ForebayError):
    """The system is not in the state that the request needs; repeating does not help."""

    reason = "FAILED_PRECONDITION"


class PromptTooLong(InvalidArgument):
    """Prompt and answer can never fit into the model's context."""

    reason = "PROMPT_TOO_LONG"


class ResourceExhausted(ForebayError):
    """There is no room now; `retry_after_us` says when to come back."""

    reason = "RESOURCE_EXHAUSTED"


class Unavailable(ForebayError):
    """A part that is needed does not answer; `retry_after_us` says when to come back."""

    reason = "UNAVAILABLE"


class NotLeader(Unavailable):
    """Another replica acts, and this one only answers questions; the message names it."""

    reason = "NOT_LEADER"


class NoInstanceReady(Unavailable):
    """The model exists, but no instance of it takes requests."""

    reason = "NO_INSTANCE_READY"


class DeadlineExceeded(ForebayError):
    """The answer did not come in time."""

    reason = "DEADLINE_EXCEEDED"


class ActuatorTimeout(DeadlineExceeded):
    """What starts and stops instances did not answer in time; what it was asked may still happen."""

    reason = "ACTUATOR_TIMEOUT"


class Unimplemented(ForebayError):
    """The server does not offer this."""

    reason = "UNIMPLEMENTED"


class Aborted(ForebayError):
    """What ran was broken off on our side, such as an instance that died in the middle of an answer."""

    reason = "ABORTED"
