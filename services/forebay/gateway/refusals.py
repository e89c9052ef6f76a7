"""What a scheduler's no means to the client, whichever way it came."""

from forebay.core.errors import (
    ForebayError,
    InvalidArgument,
    ModelUnknown,
    NoInstanceReady,
    PromptTooLong,
    ResourceExhausted,
    Unavailable,
)

_REJECTIONS: dict[str, type[ForebayError]] = {
    "MODEL_UNKNOWN": ModelUnknown,
    "PROMPT_TOO_LONG": PromptTooLong,
    "INVALID_ARGUMENT": InvalidArgument,
}
_RETRIES: dict[str, type[ForebayError]] = {"NO_INSTANCE_READY": NoInstanceReady, "UNAVAILABLE": Unavailable}


def rejection(reason: str, message: str) -> ForebayError:
    """The error of a final no; a reason that we do not know is the request's fault, since repeating does not help."""
    kind = _REJECTIONS.get(reason, InvalidArgument)
    return kind(message or "the scheduler rejected the request", reason=reason)


def retry(reason: str, message: str, delay_us: int) -> ForebayError:
    """The error of a no for now; a reason that we do not know means that there is no room."""
    kind = _RETRIES.get(reason, ResourceExhausted)
    return kind(message or "there is no room now", reason=reason, retry_after_us=delay_us)
