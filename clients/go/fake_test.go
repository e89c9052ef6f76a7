package forebay_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	forebay "forebay.dev/client-go"
	autoscalerv1 "forebay.dev/client-go/lmaas/autoscaler/v1"
	deferredv1 "forebay.dev/client-go/lmaas/deferred/v1"
	predictorv1 "forebay.dev/client-go/lmaas/predictor/v1"
	schedulerv1 "forebay.dev/client-go/lmaas/scheduler/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// fake is all of Forebay's services on one port; a test sets what it wants answered.
type fake struct {
	schedulerv1.UnimplementedSchedulerServiceServer
	predictorv1.UnimplementedPredictorServiceServer
	autoscalerv1.UnimplementedAutoscalerServiceServer
	deferredv1.UnimplementedDeferredServiceServer

	place   func(context.Context, *schedulerv1.PlaceRequest) (*schedulerv1.PlaceResponse, error)
	watch   func(autoscalerv1.AutoscalerService_WatchFleetServer) error
	pages   map[string]*schedulerv1.ListInstancesResponse
	job     []*deferredv1.Job
	batches [][]*deferredv1.Result

	queries   []*predictorv1.LengthQuery
	reports   []*schedulerv1.ReportRequest
	submitted []*deferredv1.SubmitJobRequest
	named     metadata.MD
}

func (f *fake) serve(t *testing.T, options ...grpc.ServerOption) forebay.Addresses {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer(options...)
	schedulerv1.RegisterSchedulerServiceServer(server, f)
	predictorv1.RegisterPredictorServiceServer(server, f)
	autoscalerv1.RegisterAutoscalerServiceServer(server, f)
	deferredv1.RegisterDeferredServiceServer(server, f)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	address := listener.Addr().String()
	return forebay.Addresses{Scheduler: address, Predictor: address, Autoscaler: address, Gateway: address}
}

func (f *fake) client(t *testing.T, options forebay.Options) *forebay.Client {
	t.Helper()
	options.Addresses = f.serve(t)
	options.Timeout = patient(options.Timeout)
	client, err := forebay.New(options)
	must(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

func (f *fake) deferred(t *testing.T, options forebay.Options) *forebay.DeferredClient {
	t.Helper()
	options.Addresses = f.serve(t)
	options.Timeout = patient(options.Timeout)
	client, err := forebay.NewDeferred(options)
	must(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

func (f *fake) PredictLength(
	_ context.Context, message *predictorv1.PredictLengthRequest,
) (*predictorv1.PredictLengthResponse, error) {
	f.queries = message.GetQueries()
	answer := &predictorv1.PredictLengthResponse{}
	for _, query := range f.queries {
		answer.Predictions = append(answer.Predictions, &predictorv1.LengthPrediction{QueryId: query.GetQueryId()})
	}
	return answer, nil
}

func (f *fake) Place(ctx context.Context, message *schedulerv1.PlaceRequest) (*schedulerv1.PlaceResponse, error) {
	return f.place(ctx, message)
}

func (f *fake) Report(_ context.Context, message *schedulerv1.ReportRequest) (*schedulerv1.ReportResponse, error) {
	f.reports = append(f.reports, message)
	return &schedulerv1.ReportResponse{}, nil
}

func (f *fake) Explain(_ context.Context, message *schedulerv1.ExplainRequest) (*schedulerv1.ExplainResponse, error) {
	return &schedulerv1.ExplainResponse{Decision: &schedulerv1.Decision{DecisionId: message.GetDecisionId()}}, nil
}

func (f *fake) ListInstances(
	_ context.Context, message *schedulerv1.ListInstancesRequest,
) (*schedulerv1.ListInstancesResponse, error) {
	return f.pages[message.GetPageToken()], nil
}

func (f *fake) GetFleet(
	_ context.Context, message *autoscalerv1.GetFleetRequest,
) (*autoscalerv1.GetFleetResponse, error) {
	return &autoscalerv1.GetFleetResponse{Policy: "kpa for " + message.GetModel()}, nil
}

func (f *fake) WatchFleet(
	_ *autoscalerv1.WatchFleetRequest, stream autoscalerv1.AutoscalerService_WatchFleetServer,
) error {
	return f.watch(stream)
}

func (f *fake) SubmitJob(stream deferredv1.DeferredService_SubmitJobServer) error {
	f.named, _ = metadata.FromIncomingContext(stream.Context())
	for {
		part, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&deferredv1.SubmitJobResponse{Job: &deferredv1.Job{JobId: "batch_1"}})
		} else if err != nil {
			return err
		}
		f.submitted = append(f.submitted, part)
	}
}

func (f *fake) GetJob(_ context.Context, message *deferredv1.GetJobRequest) (*deferredv1.GetJobResponse, error) {
	return &deferredv1.GetJobResponse{Job: &deferredv1.Job{JobId: message.GetJobId()}}, nil
}

func (f *fake) CancelJob(
	_ context.Context, message *deferredv1.CancelJobRequest,
) (*deferredv1.CancelJobResponse, error) {
	status := deferredv1.JobStatus_JOB_STATUS_CANCELLING
	return &deferredv1.CancelJobResponse{Job: &deferredv1.Job{JobId: message.GetJobId(), Status: status}}, nil
}

func (f *fake) WatchJob(_ *deferredv1.WatchJobRequest, stream deferredv1.DeferredService_WatchJobServer) error {
	for _, job := range f.job {
		if err := stream.Send(&deferredv1.WatchJobResponse{Job: job}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) StreamResults(
	_ *deferredv1.StreamResultsRequest, stream deferredv1.DeferredService_StreamResultsServer,
) error {
	for _, batch := range f.batches {
		if err := stream.Send(&deferredv1.StreamResultsResponse{Results: batch}); err != nil {
			return err
		}
	}
	return nil
}

// patient is enough for a machine with much other work, where a test asks for nothing else.
func patient(timeout time.Duration) time.Duration {
	if timeout == 0 {
		return time.Minute
	}
	return timeout
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
