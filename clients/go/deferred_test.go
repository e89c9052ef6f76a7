package forebay_test

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	forebay "forebay.dev/client-go"
	deferredv1 "forebay.dev/client-go/lmaas/deferred/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestAJobIsSubmittedWithItsTerms(t *testing.T) {
	services := &fake{}
	client := services.deferred(t, forebay.Options{Key: "secret", Tenant: "a"})
	terms := forebay.SubmitOptions{Window: time.Hour, Metadata: map[string]string{"for": "me"}, RequestID: "tonight"}
	job, err := client.Submit(ctx, []forebay.DeferredRequest{
		{CustomID: "a", Body: map[string]any{"model": "llama-8b"}},
		{CustomID: "b", Body: json.RawMessage(`{"model":"m"}`)},
	}, terms)
	must(t, err)
	if job.GetJobId() != "batch_1" || len(services.submitted) != 1 {
		t.Fatalf("got %v after %v", job, services.submitted)
	}
	same(t, services.submitted[0], &deferredv1.SubmitJobRequest{
		RequestId: "tonight",
		Spec: &deferredv1.JobSpec{
			Endpoint: "/v1/chat/completions", CompletionWindow: durationpb.New(time.Hour),
			Metadata: map[string]string{"for": "me"},
		},
		Requests: []*deferredv1.DeferredRequest{
			{CustomId: "a", Body: `{"model":"llama-8b"}`}, {CustomId: "b", Body: `{"model":"m"}`},
		},
	})
	if services.named.Get("authorization")[0] != "Bearer secret" || services.named.Get("x-forebay-tenant")[0] != "a" {
		t.Errorf("it was named %v", services.named)
	}
}

func TestALargeJobIsSentInParts(t *testing.T) {
	for _, one := range []struct {
		count int
		body  string
		parts []int
	}{
		{1001, "x", []int{500, 500, 1}},
		{3, strings.Repeat("x", 600_000), []int{1, 1, 1}},
		{4, strings.Repeat("x", 500_000), []int{2, 2}},
	} {
		services := &fake{}
		work := make([]forebay.DeferredRequest, one.count)
		for i := range work {
			work[i].Body = one.body
		}
		_, err := services.deferred(t, forebay.Options{}).Submit(ctx, work, forebay.SubmitOptions{})
		must(t, err)
		if len(services.submitted) != len(one.parts) {
			t.Fatalf("%d parts for %d requests", len(services.submitted), one.count)
		}
		for i, part := range services.submitted {
			if len(part.GetRequests()) != one.parts[i] || (part.GetSpec() != nil) != (i == 0) {
				t.Errorf("part %d has %d requests", i, len(part.GetRequests()))
			}
		}
	}
}

func TestABodyThatIsNoJSONIsNamed(t *testing.T) {
	work := []forebay.DeferredRequest{{CustomID: "odd", Body: make(chan int)}}
	_, err := (&fake{}).deferred(t, forebay.Options{}).Submit(ctx, work, forebay.SubmitOptions{})
	if err == nil || !strings.Contains(err.Error(), `"odd"`) {
		t.Errorf("got %v", err)
	}
}

func TestAJobIsReadAndCancelled(t *testing.T) {
	client := (&fake{}).deferred(t, forebay.Options{})
	job, err := client.Job(ctx, "batch_1")
	must(t, err)
	cancelled, err := client.Cancel(ctx, "batch_1")
	must(t, err)
	if job.GetJobId() != "batch_1" || cancelled.GetStatus() != deferredv1.JobStatus_JOB_STATUS_CANCELLING {
		t.Errorf("got %v, then %v", job, cancelled)
	}
}

func TestAJobIsWatchedToItsEnd(t *testing.T) {
	services := &fake{job: []*forebay.Job{{CompletedCount: 1}, {CompletedCount: 2}}}
	jobs, err := services.deferred(t, forebay.Options{}).Watch(ctx, "batch_1")
	must(t, err)
	for _, want := range []uint64{1, 2} {
		job, err := jobs.Recv()
		must(t, err)
		if job.GetCompletedCount() != want {
			t.Errorf("got %v", job)
		}
	}
	if _, err := jobs.Recv(); err != io.EOF {
		t.Errorf("the end is %v", err)
	}
}

func TestResultsComeOneByOne(t *testing.T) {
	services := &fake{batches: [][]*forebay.Result{{{CustomId: "a"}, {CustomId: "b"}}, {{CustomId: "c"}}}}
	results, err := services.deferred(t, forebay.Options{}).Results(ctx, "batch_1", 0)
	must(t, err)
	var names []string
	for {
		result, err := results.Recv()
		if err == io.EOF {
			break
		}
		must(t, err)
		names = append(names, result.GetCustomId())
	}
	if strings.Join(names, "") != "abc" {
		t.Errorf("got %v", names)
	}
}
