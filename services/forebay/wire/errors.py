"""The one table between our errors and gRPC statuses, in both directions."""

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from forebay.core import errors

DOMAIN = "forebay"
_DETAILS_KEY = "grpc-status-details-bin"

CODES: dict[type[errors.ForebayError], int] = {
    errors.InvalidArgument: code_pb2.INVALID_ARGUMENT,
    errors.ConfigError: code_pb2.INVALID_ARGUMENT,
    errors.PromptTooLong: code_pb2.INVALID_ARGUMENT,
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.ModelUnknown: code_pb2.NOT_FOUND,
    errors.AlreadyExists: code_pb2.ALREADY_EXISTS,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
    errors.FailedPrecondition: code_pb2.FAILED_PRECONDITION,
    errors.ResourceExhausted: code_pb2.RESOURCE_EXHAUSTED,
    errors.Unavailable: code_pb2.UNAVAILABLE,
    errors.NotLeader: code_pb2.UNAVAILABLE,
    errors.NoInstanceReady: code_pb2.UNAVAILABLE,
    errors.DeadlineExceeded: code_pb2.DEADLINE_EXCEEDED,
    errors.ActuatorTimeout: code_pb2.DEADLINE_EXCEEDED,
    errors.Unimplemented: code_pb2.UNIMPLEMENTED,
    errors.Aborted: code_pb2.ABORTED,
}
"""Every leaf of the tree stands here; a test walks the tree and looks each one up."""

_CLASSES: dict[int, type[errors.ForebayError]] = {
    code_pb2.INVALID_ARGUMENT: errors.InvalidArgument,
    code_pb2.NOT_FOUND: errors.NotFound,
    code_pb2.ALREADY_EXISTS: errors.AlreadyExists,
    code_pb2.UNAUTHENTICATED: errors.Unauthenticated,
    code_pb2.PERMISSION_DENIED: errors.PermissionDenied,
    code_pb2.FAILED_PRECONDITION: errors.FailedPrecondition,
    code_pb2.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    code_pb2.UNAVAILABLE: errors.Unavailable,
    code_pb2.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    code_pb2.UNIMPLEMENTED: errors.Unimplemented,
    code_pb2.ABORTED: errors.Aborted,
}


def to_status(error: BaseException) -> status_pb2.Status:
    """The status of an error, with ErrorInfo and, where they say something, BadRequest and RetryInfo.

    Anything outside our tree is a bug: INTERNAL, without its text, which may hold what must not leave.
    """
    if isinstance(error, NotImplementedError):
        error = errors.Unimplemented("this server does not offer the method; see its reflection for those it offers")
    if not isinstance(error, errors.ForebayError):
        return _status(code_pb2.INTERNAL, "internal error; the server's log has the details", _info("INTERNAL"))
    details: list[message.Message] = [_info(error.code)]
    if error.violations:
        details.append(_bad_request(error.violations))
    if error.retry_after_us is not None:
        details.append(_retry_info(error.retry_after_us))
    return _status(CODES[type(error)], error.message, *details)


def from_rpc_error(error: grpc.RpcError) -> errors.ForebayError:
    """The error of our tree that a failed call stands for; codes without a leaf become Unavailable."""
    call = error
    code = int(call.code().value[0]) if isinstance(call, grpc.aio.AioRpcError) else code_pb2.UNAVAILABLE
    text = (call.details() or "") if isinstance(call, grpc.aio.AioRpcError) else str(error)
    info, retry, bad = _details(error)
    return _CLASSES.get(code, errors.Unavailable)(
        text or "the server did not answer",
        reason=info,
        retry_after_us=retry,
        violations=bad,
    )


def _details(error: grpc.RpcError) -> tuple[str, int | None, dict[str, str]]:
    status = _status_of(error)
    reason, retry, violations = "", None, {}
    for detail in status.details if status else ():
        info, back, bad = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.RetryInfo(),
            error_details_pb2.BadRequest(),
        )
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(back):
            retry = back.retry_delay.ToMicroseconds()
        elif detail.Unpack(bad):
            violations = {one.field: one.description for one in bad.field_violations}
    return reason, retry, violations


def _status_of(error: grpc.RpcError) -> status_pb2.Status | None:
    if not isinstance(error, grpc.aio.AioRpcError):
        return None
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            return status_pb2.Status.FromString(value if isinstance(value, bytes) else value.encode())
    return None


def _status(code: int, text: str, *details: message.Message) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code, message=text, details=packed)


def _info(reason: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)


def _bad_request(violations: dict[str, str]) -> error_details_pb2.BadRequest:
    found = [
        error_details_pb2.BadRequest.FieldViolation(field=name, description=text) for name, text in violations.items()
    ]
    return error_details_pb2.BadRequest(field_violations=found)


def _retry_info(after_us: int) -> error_details_pb2.RetryInfo:
    delay = duration_pb2.Duration()
    delay.FromMicroseconds(after_us)
    return error_details_pb2.RetryInfo(retry_delay=delay)
