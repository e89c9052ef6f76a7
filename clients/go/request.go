package forebay

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"unicode/utf8"

	autoscalerv1 "forebay.dev/client-go/lmaas/autoscaler/v1"
	commonv1 "forebay.dev/client-go/lmaas/common/v1"
	deferredv1 "forebay.dev/client-go/lmaas/deferred/v1"
	predictorv1 "forebay.dev/client-go/lmaas/predictor/v1"
	schedulerv1 "forebay.dev/client-go/lmaas/scheduler/v1"
)

// The contract's messages that the verbs take and give.
type (
	Request           = schedulerv1.InferenceRequest
	Prediction        = predictorv1.LengthPrediction
	Placement         = schedulerv1.Placement
	Outcome           = schedulerv1.Outcome
	Decision          = schedulerv1.Decision
	ScheduledInstance = schedulerv1.ScheduledInstance
	Instance          = commonv1.Instance
	Fleet             = autoscalerv1.GetFleetResponse
	Job               = deferredv1.Job
	Result            = deferredv1.Result
)

// How a request ended.
const (
	// Stopped: the model ended the answer by itself.
	Stopped = schedulerv1.Outcome_OUTCOME_STOPPED
	// Length: the answer was cut at the token limit.
	Length = schedulerv1.Outcome_OUTCOME_LENGTH
	// Failed: the instance failed or could not be reached.
	Failed = schedulerv1.Outcome_OUTCOME_FAILED
	// Cancelled: the client went away.
	Cancelled = schedulerv1.Outcome_OUTCOME_CANCELLED
)

// The promise made to a request.
const (
	InteractiveFast   = commonv1.SloClass_SLO_CLASS_INTERACTIVE_FAST
	InteractiveNormal = commonv1.SloClass_SLO_CLASS_INTERACTIVE_NORMAL
	Deferred          = commonv1.SloClass_SLO_CLASS_DEFERRED
)

const promptHeadBytes = 8192

// NewRequest is a request to place, with a fresh id, of class InteractiveNormal; set its other fields before it is sent.
// Only the first 8,192 bytes of the prompt are sent.
func NewRequest(model, prompt string, promptTokens uint32) *Request {
	return &Request{
		RequestId:    newID(),
		Model:        model,
		PromptTokens: promptTokens,
		SloClass:     InteractiveNormal,
		PromptHead:   head(prompt),
	}
}

// SystemDigest names a system prompt in Request.SystemDigest; the prompt itself is never sent.
func SystemDigest(prompt string) string {
	if prompt == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(prompt))
	return hex.EncodeToString(sum[:8])
}

func head(prompt string) string {
	if len(prompt) <= promptHeadBytes {
		return prompt
	}
	end := promptHeadBytes
	for !utf8.RuneStart(prompt[end]) {
		end--
	}
	return prompt[:end]
}

func newID() string {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		panic("forebay: the system has no randomness: " + err.Error())
	}
	return hex.EncodeToString(id)
}

func lengthQuery(request *Request) *predictorv1.LengthQuery {
	return &predictorv1.LengthQuery{
		QueryId:      request.GetRequestId(),
		Model:        request.GetModel(),
		PromptTokens: request.GetPromptTokens(),
		TokensMax:    request.GetTokensMax(),
		PromptHead:   request.GetPromptHead(),
		Application:  request.GetApplication(),
		Tenant:       request.GetTenant(),
		Temperature:  request.GetTemperature(),
		TurnNumber:   request.GetTurnNumber(),
		SystemDigest: request.GetSystemDigest(),
		Traceparent:  request.GetTraceparent(),
	}
}
