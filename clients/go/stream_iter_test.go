//go:build go1.23

package forebay_test

import (
	"testing"

	forebay "forebay.dev/client-go"
	autoscalerv1 "forebay.dev/client-go/lmaas/autoscaler/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestAStreamCanBeRangedOver(t *testing.T) {
	services := &fake{batches: [][]*forebay.Result{{{CustomId: "a"}, {CustomId: "b"}}}}
	results, err := services.deferred(t, forebay.Options{}).Results(ctx, "batch_1", 0)
	must(t, err)
	names := ""
	for result, err := range results.All() {
		must(t, err)
		names += result.GetCustomId()
	}
	if names != "ab" {
		t.Errorf("got %q", names)
	}
}

func TestAStreamThatBreaksEndsTheRangeWithTheFailure(t *testing.T) {
	services := &fake{watch: func(autoscalerv1.AutoscalerService_WatchFleetServer) error {
		return status.Error(codes.NotFound, "no such model")
	}}
	fleet, err := services.client(t, forebay.Options{}).WatchFleet(ctx, "none")
	must(t, err)
	var failures []error
	for _, err := range fleet.All() {
		failures = append(failures, err)
	}
	if len(failures) != 1 || status.Code(failures[0]) != codes.NotFound {
		t.Errorf("got %v", failures)
	}
}
