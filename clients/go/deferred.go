package forebay

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	deferredv1 "forebay.dev/client-go/lmaas/deferred/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	chatEndpoint      = "/v1/chat/completions"
	defaultWindow     = 24 * time.Hour
	submitTimeout     = 10 * time.Minute
	partRequestsMax   = 500
	partBytesMax      = 1 << 20
	keyMetadata       = "authorization"
	tenantMetadataKey = "x-forebay-tenant"
)

// DeferredClient asks a gateway about jobs: many requests that nobody waits for, answered once each before a deadline.
type DeferredClient struct {
	timeouts
	connection *grpc.ClientConn
	jobs       deferredv1.DeferredServiceClient
	named      []string
}

// DeferredRequest is one request of a job.
type DeferredRequest struct {
	// CustomID is the caller's name for it, its own within the job.
	CustomID string
	// Body as the endpoint takes it: anything that encoding/json writes, or a json.RawMessage.
	Body any
}

// SubmitOptions are the terms of a job. The zero value is a job of chat completions, due within 24 hours.
type SubmitOptions struct {
	// Endpoint that the bodies are written for; /v1/chat/completions where it is empty.
	Endpoint string
	// Window is the time until all is due; 24 h where it is 0.
	Window time.Duration
	// Metadata are notes, given back with the job.
	Metadata map[string]string
	// RequestID makes submitting safe to repeat: the same id gives the same job. A fresh one where it is empty.
	RequestID string
}

// NewDeferred connects on first use; it fails only where an option is wrong.
func NewDeferred(options Options) (*DeferredClient, error) {
	options = options.withDefaults()
	connection, err := options.dial(options.Addresses.Gateway)
	if err != nil {
		return nil, err
	}
	client := &DeferredClient{
		timeouts:   timeouts{options.Timeout},
		connection: connection,
		jobs:       deferredv1.NewDeferredServiceClient(connection),
	}
	if options.Key != "" {
		client.named = append(client.named, keyMetadata, "Bearer "+options.Key)
	}
	if options.Tenant != "" {
		client.named = append(client.named, tenantMetadataKey, options.Tenant)
	}
	return client, nil
}

// Close ends the connection and all streams.
func (c *DeferredClient) Close() error { return c.connection.Close() }

// Submit makes a job; it returns once all is kept, within ten minutes.
func (c *DeferredClient) Submit(ctx context.Context, requests []DeferredRequest, options SubmitOptions) (*Job, error) {
	ctx, cancel := context.WithTimeout(c.name(ctx), submitTimeout)
	defer cancel()
	parts, err := partsOf(requests, options)
	if err != nil {
		return nil, err
	}
	call, err := c.jobs.SubmitJob(ctx)
	if err != nil {
		return nil, fromCall(err)
	}
	for _, part := range parts {
		if err := call.Send(part); err == io.EOF {
			break // The server has ended the call: CloseAndRecv tells why.
		} else if err != nil {
			return nil, fromCall(err)
		}
	}
	answer, err := call.CloseAndRecv()
	return answer.GetJob(), fromCall(err)
}

// Job returns a job as it stands.
func (c *DeferredClient) Job(ctx context.Context, jobID string) (*Job, error) {
	ctx, cancel := c.limit(c.name(ctx))
	defer cancel()
	answer, err := c.jobs.GetJob(ctx, &deferredv1.GetJobRequest{JobId: jobID})
	return answer.GetJob(), fromCall(err)
}

// Cancel ends a job without the requests that have no answer yet.
func (c *DeferredClient) Cancel(ctx context.Context, jobID string) (*Job, error) {
	ctx, cancel := c.limit(c.name(ctx))
	defer cancel()
	answer, err := c.jobs.CancelJob(ctx, &deferredv1.CancelJobRequest{JobId: jobID, RequestId: newID()})
	return answer.GetJob(), fromCall(err)
}

// Watch sends the job at once and after every change, until it has ended.
func (c *DeferredClient) Watch(ctx context.Context, jobID string) (*Stream[*Job], error) {
	ctx, cancel := context.WithCancel(c.name(ctx))
	call, err := c.jobs.WatchJob(ctx, &deferredv1.WatchJobRequest{JobId: jobID})
	if err != nil {
		cancel()
		return nil, fromCall(err)
	}
	return newStream(cancel, func() (*Job, error) {
		answer, err := call.Recv()
		return answer.GetJob(), err
	}), nil
}

// Results sends how the job's requests ended, those of now, in the order of submission, from after a Result.Number on; 0
// is from the first.
func (c *DeferredClient) Results(ctx context.Context, jobID string, afterNumber uint64) (*Stream[*Result], error) {
	ctx, cancel := context.WithCancel(c.name(ctx))
	call, err := c.jobs.StreamResults(ctx, &deferredv1.StreamResultsRequest{JobId: jobID, AfterNumber: afterNumber})
	if err != nil {
		cancel()
		return nil, fromCall(err)
	}
	var waiting []*Result
	return newStream(cancel, func() (*Result, error) {
		for len(waiting) == 0 {
			answer, err := call.Recv()
			if err != nil {
				return nil, err
			}
			waiting = answer.GetResults()
		}
		first := waiting[0]
		waiting = waiting[1:]
		return first, nil
	}), nil
}

func (c *DeferredClient) name(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, c.named...)
}

// partsOf cuts a job into messages of at most 500 requests and about 1 MiB; the first one has the terms.
func partsOf(requests []DeferredRequest, options SubmitOptions) ([]*deferredv1.SubmitJobRequest, error) {
	part := &deferredv1.SubmitJobRequest{RequestId: options.RequestID, Spec: specOf(options)}
	if part.RequestId == "" {
		part.RequestId = newID()
	}
	parts, bytes := []*deferredv1.SubmitJobRequest{part}, 0
	for _, request := range requests {
		body, err := json.Marshal(request.Body)
		if err != nil {
			return nil, fmt.Errorf("forebay: the body of %q is no JSON: %w", request.CustomID, err)
		}
		if len(part.Requests) == partRequestsMax || len(part.Requests) > 0 && bytes+len(body) > partBytesMax {
			part, bytes = &deferredv1.SubmitJobRequest{}, 0
			parts = append(parts, part)
		}
		part.Requests = append(part.Requests, &deferredv1.DeferredRequest{CustomId: request.CustomID, Body: string(body)})
		bytes += len(body)
	}
	return parts, nil
}

func specOf(options SubmitOptions) *deferredv1.JobSpec {
	if options.Endpoint == "" {
		options.Endpoint = chatEndpoint
	}
	if options.Window == 0 {
		options.Window = defaultWindow
	}
	return &deferredv1.JobSpec{
		Endpoint:         options.Endpoint,
		CompletionWindow: durationpb.New(options.Window),
		Metadata:         options.Metadata,
	}
}
