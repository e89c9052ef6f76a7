// Package forebay is the Go client of Forebay: predict, place, report, explain and watch over gRPC.
//
// Client talks to predictor, scheduler and autoscaler, DeferredClient to a gateway about jobs that nobody waits for. Both
// are safe for concurrent use. Every verb takes a context first, ends by Options.Timeout at the latest, and fails with
// *Error. The messages are those of the contract, generated in lmaas.
package forebay

import (
	"context"

	autoscalerv1 "forebay.dev/client-go/lmaas/autoscaler/v1"
	predictorv1 "forebay.dev/client-go/lmaas/predictor/v1"
	schedulerv1 "forebay.dev/client-go/lmaas/scheduler/v1"
	"google.golang.org/grpc"
)

// Client asks predictor, scheduler and autoscaler.
type Client struct {
	timeouts
	connections []*grpc.ClientConn
	scheduler   schedulerv1.SchedulerServiceClient
	predictor   predictorv1.PredictorServiceClient
	autoscaler  autoscalerv1.AutoscalerServiceClient
}

// New connects on first use; it fails only where an option is wrong.
func New(options Options) (*Client, error) {
	options = options.withDefaults()
	client := &Client{timeouts: timeouts{options.Timeout}}
	where := options.Addresses
	for _, address := range []string{where.Scheduler, where.Predictor, where.Autoscaler} {
		connection, err := options.dial(address)
		if err != nil {
			client.Close()
			return nil, err
		}
		client.connections = append(client.connections, connection)
	}
	client.scheduler = schedulerv1.NewSchedulerServiceClient(client.connections[0])
	client.predictor = predictorv1.NewPredictorServiceClient(client.connections[1])
	client.autoscaler = autoscalerv1.NewAutoscalerServiceClient(client.connections[2])
	return client, nil
}

// Close ends the connections and all streams.
func (c *Client) Close() error {
	var first error
	for _, connection := range c.connections {
		if err := connection.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Predict tells how long the answers will be, in the order of the requests.
func (c *Client) Predict(ctx context.Context, requests ...*Request) ([]*Prediction, error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	message := &predictorv1.PredictLengthRequest{}
	for _, request := range requests {
		message.Queries = append(message.Queries, lengthQuery(request))
	}
	answer, err := c.predictor.PredictLength(ctx, message)
	return answer.GetPredictions(), fromCall(err)
}

// Place waits for an instance. Placing the same RequestId again gives the same placement.
func (c *Client) Place(ctx context.Context, request *Request) (*Placement, error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	answer, err := c.scheduler.Place(ctx, &schedulerv1.PlaceRequest{Request: request})
	return answer.GetPlacement(), fromCall(err)
}

// Progress renews a lease and tells how many tokens there are since the start of the answer.
func (c *Client) Progress(ctx context.Context, leaseID string, generatedTokens uint32) error {
	progress := &schedulerv1.Progress{LeaseId: leaseID, GeneratedTokens: generatedTokens}
	return c.report(ctx, &schedulerv1.ReportRequest{Event: &schedulerv1.ReportRequest_Progress{Progress: progress}})
}

// Finish ends a lease. promptTokens is the prompt's length as the model counted it, 0 where it does not tell.
func (c *Client) Finish(ctx context.Context, leaseID string, outcome Outcome, generatedTokens, promptTokens uint32) error {
	finish := &schedulerv1.Finish{
		LeaseId: leaseID, Outcome: outcome, GeneratedTokens: generatedTokens, PromptTokens: promptTokens,
	}
	return c.report(ctx, &schedulerv1.ReportRequest{Event: &schedulerv1.ReportRequest_Finish{Finish: finish}})
}

// Cancel withdraws a request, placed or not.
func (c *Client) Cancel(ctx context.Context, requestID string) error {
	cancel := &schedulerv1.Cancel{RequestId: requestID}
	return c.report(ctx, &schedulerv1.ReportRequest{Event: &schedulerv1.ReportRequest_Cancel{Cancel: cancel}})
}

// Explain returns the record of one decision of the scheduler.
func (c *Client) Explain(ctx context.Context, decisionID string) (*Decision, error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	answer, err := c.scheduler.Explain(ctx, &schedulerv1.ExplainRequest{DecisionId: decisionID})
	return answer.GetDecision(), fromCall(err)
}

// Instances lists the fleet with the load that the scheduler has put on it, all pages; an empty model selects all.
func (c *Client) Instances(ctx context.Context, model string) ([]*ScheduledInstance, error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	var found []*ScheduledInstance
	for token := ""; ; {
		message := &schedulerv1.ListInstancesRequest{Model: model, PageToken: token}
		page, err := c.scheduler.ListInstances(ctx, message)
		if err != nil {
			return nil, fromCall(err)
		}
		found = append(found, page.GetInstances()...)
		if token = page.GetNextPageToken(); token == "" {
			return found, nil
		}
	}
}

// Fleet returns the instances with bounds, mode and policy as the autoscaler has them; an empty model selects all.
func (c *Client) Fleet(ctx context.Context, model string) (*Fleet, error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	answer, err := c.autoscaler.GetFleet(ctx, &autoscalerv1.GetFleetRequest{Model: model})
	return answer, fromCall(err)
}

// WatchFleet sends the instances now and after every change, until the context or Close ends it; an empty model selects
// all.
func (c *Client) WatchFleet(ctx context.Context, model string) (*Stream[[]*Instance], error) {
	ctx, cancel := context.WithCancel(ctx)
	call, err := c.autoscaler.WatchFleet(ctx, &autoscalerv1.WatchFleetRequest{Model: model})
	if err != nil {
		cancel()
		return nil, fromCall(err)
	}
	return newStream(cancel, func() ([]*Instance, error) {
		answer, err := call.Recv()
		return answer.GetInstances(), err
	}), nil
}

func (c *Client) report(ctx context.Context, message *schedulerv1.ReportRequest) error {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	_, err := c.scheduler.Report(ctx, message)
	return fromCall(err)
}
