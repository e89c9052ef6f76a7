// Scenario calls every verb of the client against a running stack and prints one JSON object a step; all of Forebay's
// clients have the same program.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"time"

	forebay "forebay.dev/client-go"
	commonv1 "forebay.dev/client-go/lmaas/common/v1"
)

const timeout = 2 * time.Minute

type step map[string]any

type scenario struct {
	client    *forebay.Client
	deferred  *forebay.DeferredClient
	model     string
	request   *forebay.Request
	placement *forebay.Placement
}

func main() {
	var where forebay.Addresses
	flag.StringVar(&where.Scheduler, "scheduler", "", "host:port of the scheduler")
	flag.StringVar(&where.Predictor, "predictor", "", "host:port of the predictor")
	flag.StringVar(&where.Autoscaler, "autoscaler", "", "host:port of the autoscaler")
	flag.StringVar(&where.Gateway, "gateway", "", "host:port of the gateway's gRPC")
	model := flag.String("model", "llama-8b", "model to ask for")
	flag.Parse()
	if err := run(where, *model); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(where forebay.Addresses, model string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	client, err := forebay.New(forebay.Options{Addresses: where})
	if err != nil {
		return err
	}
	defer client.Close()
	deferred, err := forebay.NewDeferred(forebay.Options{Addresses: where})
	if err != nil {
		return err
	}
	defer deferred.Close()
	one := &scenario{client: client, deferred: deferred, model: model}
	one.request = forebay.NewRequest(model, "Write a haiku.", 6)
	one.request.TokensMax = 64
	for _, do := range []func(context.Context) (step, error){
		one.predict, one.place, one.progress, one.finish, one.explain, one.refuse, one.watchFleet, one.submit,
	} {
		done, err := do(ctx)
		if err != nil {
			return err
		}
		line, _ := json.Marshal(done)
		fmt.Println(string(line))
	}
	return nil
}

func (s *scenario) predict(ctx context.Context) (step, error) {
	predictions, err := s.client.Predict(ctx, s.request)
	if err != nil {
		return nil, err
	}
	at := predictions[0].GetQuantiles()
	return step{
		"step": "predict",
		"p10":  at.GetP10Tokens(), "p50": at.GetP50Tokens(), "p90": at.GetP90Tokens(), "p97": at.GetP97Tokens(),
	}, nil
}

func (s *scenario) place(ctx context.Context) (step, error) {
	first, err := s.client.Place(ctx, s.request)
	if err != nil {
		return nil, err
	}
	again, err := s.client.Place(ctx, s.request)
	if err != nil {
		return nil, err
	}
	s.placement = first
	return step{
		"step": "place", "instance_id": first.GetInstanceId(), "lease_id": first.GetLeaseId(),
		"same_lease": first.GetLeaseId() == again.GetLeaseId(),
	}, nil
}

func (s *scenario) progress(ctx context.Context) (step, error) {
	return step{"step": "progress"}, s.client.Progress(ctx, s.placement.GetLeaseId(), 10)
}

func (s *scenario) finish(ctx context.Context) (step, error) {
	return step{"step": "finish"}, s.client.Finish(ctx, s.placement.GetLeaseId(), forebay.Stopped, 17, 6)
}

func (s *scenario) explain(ctx context.Context) (step, error) {
	decision, err := s.client.Explain(ctx, s.placement.GetDecisionId())
	return step{
		"step": "explain", "verdict": strings.TrimPrefix(decision.GetVerdict().String(), "VERDICT_"),
		"instance_id": decision.GetInstanceId(), "candidate_count": len(decision.GetCandidates()),
	}, err
}

func (s *scenario) refuse(ctx context.Context) (step, error) {
	_, err := s.client.Place(ctx, forebay.NewRequest("", "Write a haiku.", 6))
	var refused *forebay.Error
	if !errors.As(err, &refused) {
		return nil, fmt.Errorf("a request without a model was not refused: %v", err)
	}
	return step{
		"step": "refuse", "code": refused.CodeName(), "reason": refused.Reason, "violations": refused.Violations,
	}, nil
}

func (s *scenario) watchFleet(ctx context.Context) (step, error) {
	fleet, err := s.client.WatchFleet(ctx, s.model)
	if err != nil {
		return nil, err
	}
	defer fleet.Close()
	instances, err := fleet.Recv()
	ready := 0
	for _, instance := range instances {
		if instance.GetState() == commonv1.InstanceState_INSTANCE_STATE_READY {
			ready++
		}
	}
	return step{"step": "watch_fleet", "ready_count": ready}, err
}

func (s *scenario) submit(ctx context.Context) (step, error) {
	var requests []forebay.DeferredRequest
	for _, name := range []string{"a", "b"} {
		message := map[string]string{"role": "user", "content": "Write a haiku."}
		body := map[string]any{"model": s.model, "messages": []any{message}, "max_tokens": 8}
		requests = append(requests, forebay.DeferredRequest{CustomID: name, Body: body})
	}
	job, err := s.deferred.Submit(ctx, requests, forebay.SubmitOptions{Window: time.Hour})
	if err != nil {
		return nil, err
	}
	if job, err = s.ended(ctx, job.GetJobId()); err != nil {
		return nil, err
	}
	names, err := s.answered(ctx, job.GetJobId())
	status := strings.TrimPrefix(job.GetStatus().String(), "JOB_STATUS_")
	return step{"step": "deferred", "status": status, "results": names}, err
}

func (s *scenario) ended(ctx context.Context, jobID string) (last *forebay.Job, err error) {
	jobs, err := s.deferred.Watch(ctx, jobID)
	if err != nil {
		return nil, err
	}
	defer jobs.Close()
	for {
		job, err := jobs.Recv()
		if err == io.EOF {
			return last, nil
		} else if err != nil {
			return nil, err
		}
		last = job
	}
}

func (s *scenario) answered(ctx context.Context, jobID string) ([]string, error) {
	results, err := s.deferred.Results(ctx, jobID, 0)
	if err != nil {
		return nil, err
	}
	defer results.Close()
	names := []string{}
	for {
		result, err := results.Recv()
		if err == io.EOF {
			sort.Strings(names)
			return names, nil
		} else if err != nil {
			return nil, err
		}
		if result.GetStatusCode() != 200 {
			return nil, fmt.Errorf("request %q ended with status %d: %s", result.GetCustomId(), result.GetStatusCode(),
				result.GetBody())
		}
		names = append(names, result.GetCustomId())
	}
}
