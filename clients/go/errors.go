package forebay

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	codepb "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is a call that failed. errors.As finds it, errors.Is finds context.DeadlineExceeded and context.Canceled in it,
// and status.Code reads its code.
type Error struct {
	// Code is the gRPC status.
	Code codes.Code
	// Message says what went wrong and what to do.
	Message string
	// Reason is stable and UPPER_SNAKE_CASE; empty where the server gave none.
	Reason string
	// RetryAfter is how long to wait before trying again; 0 where waiting does not help.
	RetryAfter time.Duration
	// Violations says what is wrong, by field.
	Violations map[string]string

	cause *status.Status
}

// Error is one line with all that is known.
func (e *Error) Error() string {
	name := e.Reason
	if name == "" {
		name = e.CodeName()
	}
	text := fmt.Sprintf("forebay: %s: %s", name, e.Message)
	if len(e.Violations) == 0 {
		return text
	}
	var broken []string
	for field, why := range e.Violations {
		broken = append(broken, field+" "+why)
	}
	sort.Strings(broken)
	return text + " (" + strings.Join(broken, "; ") + ")"
}

// CodeName is the code as gRPC's documents write it: INVALID_ARGUMENT and so on.
func (e *Error) CodeName() string { return codepb.Code(e.Code).String() }

// GRPCStatus is what the server sent.
func (e *Error) GRPCStatus() *status.Status { return e.cause }

// Is tells the two ends of a context.
func (e *Error) Is(target error) bool {
	return target == context.DeadlineExceeded && e.Code == codes.DeadlineExceeded ||
		target == context.Canceled && e.Code == codes.Canceled
}

func fromCall(err error) error {
	if err == nil {
		return nil
	}
	cause := status.Convert(err)
	found := &Error{Code: cause.Code(), Message: cause.Message(), cause: cause}
	for _, detail := range cause.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			found.Reason = detail.GetReason()
		case *errdetails.RetryInfo:
			found.RetryAfter = detail.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			found.Violations = map[string]string{}
			for _, one := range detail.GetFieldViolations() {
				found.Violations[one.GetField()] = one.GetDescription()
			}
		}
	}
	return found
}
