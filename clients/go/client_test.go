package forebay_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	forebay "forebay.dev/client-go"
	autoscalerv1 "forebay.dev/client-go/lmaas/autoscaler/v1"
	commonv1 "forebay.dev/client-go/lmaas/common/v1"
	predictorv1 "forebay.dev/client-go/lmaas/predictor/v1"
	schedulerv1 "forebay.dev/client-go/lmaas/scheduler/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

var ctx = context.Background()

func request() *forebay.Request { return forebay.NewRequest("llama-8b", "Write a haiku.", 6) }

func placed(lease string) *schedulerv1.PlaceResponse {
	return &schedulerv1.PlaceResponse{Placement: &schedulerv1.Placement{LeaseId: lease}}
}

func TestPredictAsksAllThatARequestSaysOfLength(t *testing.T) {
	services := &fake{}
	wanted := request()
	wanted.TokensMax, wanted.Application, wanted.Tenant, wanted.Temperature, wanted.TurnNumber = 64, "chat", "a", 0.5, 2
	wanted.SystemDigest = forebay.SystemDigest("You are brief.")
	predictions, err := services.client(t, forebay.Options{}).Predict(ctx, wanted, request())
	must(t, err)
	if len(predictions) != 2 || predictions[0].GetQueryId() != wanted.GetRequestId() {
		t.Errorf("predictions are %v", predictions)
	}
	same(t, services.queries[0], &predictorv1.LengthQuery{
		QueryId: wanted.GetRequestId(), Model: "llama-8b", PromptTokens: 6, TokensMax: 64, PromptHead: "Write a haiku.",
		Application: "chat", Tenant: "a", Temperature: 0.5, TurnNumber: 2, SystemDigest: wanted.GetSystemDigest(),
	})
}

func TestPlaceSendsTheRequestAsItIs(t *testing.T) {
	wanted := request()
	services := &fake{place: func(_ context.Context, m *schedulerv1.PlaceRequest) (*schedulerv1.PlaceResponse, error) {
		same(t, m.GetRequest(), wanted)
		return placed("l1"), nil
	}}
	placement, err := services.client(t, forebay.Options{}).Place(ctx, wanted)
	must(t, err)
	if placement.GetLeaseId() != "l1" {
		t.Errorf("placement is %v", placement)
	}
}

func TestReportsSayWhatHappened(t *testing.T) {
	services := &fake{}
	client := services.client(t, forebay.Options{})
	must(t, client.Progress(ctx, "l1", 10))
	must(t, client.Finish(ctx, "l1", forebay.Stopped, 17, 6))
	must(t, client.Cancel(ctx, "r1"))
	same(t, services.reports[0].GetProgress(), &schedulerv1.Progress{LeaseId: "l1", GeneratedTokens: 10})
	same(t, services.reports[1].GetFinish(), &schedulerv1.Finish{
		LeaseId: "l1", Outcome: forebay.Stopped, GeneratedTokens: 17, PromptTokens: 6,
	})
	same(t, services.reports[2].GetCancel(), &schedulerv1.Cancel{RequestId: "r1"})
}

func TestExplainAndFleetAskForWhatIsNamed(t *testing.T) {
	client := (&fake{}).client(t, forebay.Options{})
	decision, err := client.Explain(ctx, "d1")
	must(t, err)
	fleet, err := client.Fleet(ctx, "llama-8b")
	must(t, err)
	if decision.GetDecisionId() != "d1" || fleet.GetPolicy() != "kpa for llama-8b" {
		t.Errorf("got %v and %v", decision, fleet)
	}
}

func TestInstancesJoinsAllPages(t *testing.T) {
	one := func(id string) []*schedulerv1.ScheduledInstance {
		return []*schedulerv1.ScheduledInstance{{Instance: &commonv1.Instance{InstanceId: id}}}
	}
	services := &fake{pages: map[string]*schedulerv1.ListInstancesResponse{
		"":  {Instances: one("a"), NextPageToken: "2"},
		"2": {Instances: one("b")},
	}}
	instances, err := services.client(t, forebay.Options{}).Instances(ctx, "")
	must(t, err)
	if len(instances) != 2 || instances[1].GetInstance().GetInstanceId() != "b" {
		t.Errorf("instances are %v", instances)
	}
}

func TestAFailureHasCodeReasonViolationsAndTheTimeToComeBack(t *testing.T) {
	refused, err := status.New(codes.ResourceExhausted, "no room").WithDetails(
		&errdetails.ErrorInfo{Reason: "HELD_TOO_LONG", Domain: "forebay"},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "request.model", Description: "must not be empty"},
		}},
	)
	must(t, err)
	services := &fake{place: func(context.Context, *schedulerv1.PlaceRequest) (*schedulerv1.PlaceResponse, error) {
		return nil, refused.Err()
	}}
	_, err = services.client(t, forebay.Options{}).Place(ctx, request())
	var found *forebay.Error
	if !errors.As(err, &found) {
		t.Fatalf("got %v", err)
	}
	if found.Code != codes.ResourceExhausted || found.CodeName() != "RESOURCE_EXHAUSTED" ||
		found.Reason != "HELD_TOO_LONG" || found.RetryAfter != 1500*time.Millisecond ||
		found.Violations["request.model"] != "must not be empty" {
		t.Errorf("got %+v", found)
	}
	if want := "forebay: HELD_TOO_LONG: no room (request.model must not be empty)"; err.Error() != want {
		t.Errorf("it says %q", err)
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Error("the error is no gRPC status")
	}
}

func TestACallEndsAtItsTimeout(t *testing.T) {
	services := &fake{place: func(ctx context.Context, _ *schedulerv1.PlaceRequest) (*schedulerv1.PlaceResponse, error) {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}}
	client := services.client(t, forebay.Options{Timeout: 50 * time.Millisecond})
	if _, err := client.Place(ctx, request()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := client.Place(cancelled, request()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestUnavailableIsTriedAgain(t *testing.T) {
	if os.Getenv("GRPC_GO_RETRY") != "on" && strings.HasPrefix(grpc.Version, "1.33.") {
		t.Skip("this grpc-go retries only with GRPC_GO_RETRY=on")
	}
	calls := 0
	services := &fake{place: func(context.Context, *schedulerv1.PlaceRequest) (*schedulerv1.PlaceResponse, error) {
		if calls++; calls < 3 {
			return nil, status.Error(codes.Unavailable, "restarting")
		}
		return placed("l1"), nil
	}}
	_, err := services.client(t, forebay.Options{}).Place(ctx, request())
	must(t, err)
	if calls != 3 {
		t.Errorf("the server was called %d times", calls)
	}
}

func TestTheFleetIsWatchedUntilItIsClosed(t *testing.T) {
	left := make(chan struct{})
	services := &fake{watch: func(stream autoscalerv1.AutoscalerService_WatchFleetServer) error {
		for _, id := range []string{"a", "b"} {
			answer := &autoscalerv1.WatchFleetResponse{Instances: []*forebay.Instance{{InstanceId: id}}}
			if err := stream.Send(answer); err != nil {
				return err
			}
		}
		<-stream.Context().Done()
		close(left)
		return nil
	}}
	fleet, err := services.client(t, forebay.Options{Timeout: time.Nanosecond}).WatchFleet(ctx, "")
	must(t, err)
	for _, want := range []string{"a", "b"} {
		instances, err := fleet.Recv()
		must(t, err)
		if instances[0].GetInstanceId() != want {
			t.Errorf("got %v, not %s", instances, want)
		}
	}
	fleet.Close()
	if _, err := fleet.Recv(); !errors.Is(err, context.Canceled) {
		t.Errorf("a closed stream gave %v", err)
	}
	<-left
}

func TestAStreamThatBreaksSaysWhy(t *testing.T) {
	services := &fake{watch: func(autoscalerv1.AutoscalerService_WatchFleetServer) error {
		return status.Error(codes.NotFound, "no such model")
	}}
	fleet, err := services.client(t, forebay.Options{}).WatchFleet(ctx, "none")
	must(t, err)
	_, err = fleet.Recv()
	var found *forebay.Error
	if !errors.As(err, &found) || found.Code != codes.NotFound || err == io.EOF {
		t.Errorf("got %v", err)
	}
}

func TestDialOptionsSeeEveryCall(t *testing.T) {
	services := &fake{}
	var seen []string
	watch := grpc.WithUnaryInterceptor(func(ctx context.Context, method string, in, out interface{},
		connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		seen = append(seen, method)
		return invoke(ctx, method, in, out, connection, options...)
	})
	must(t, services.client(t, forebay.Options{DialOptions: []grpc.DialOption{watch}}).Cancel(ctx, "r1"))
	if len(seen) != 1 || seen[0] != "/lmaas.scheduler.v1.SchedulerService/Report" {
		t.Errorf("it saw %v", seen)
	}
}

func TestTLSIsSpokenWhereItIsAskedFor(t *testing.T) {
	certificate, roots := selfSigned(t)
	services := &fake{}
	where := services.serve(t, grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
	client, err := forebay.New(forebay.Options{Addresses: where, TLS: &tls.Config{RootCAs: roots}, Timeout: patient(0)})
	must(t, err)
	defer client.Close()
	must(t, client.Cancel(ctx, "r1"))
	plain, err := forebay.New(forebay.Options{Addresses: where, Timeout: 2 * time.Second})
	must(t, err)
	defer plain.Close()
	if err := plain.Cancel(ctx, "r1"); err == nil {
		t.Error("plain text reached a server that speaks TLS")
	}
}

func TestAWrongOptionSaysWhatToGive(t *testing.T) {
	_, err := forebay.New(forebay.Options{Timeout: -time.Second})
	if err == nil || !strings.Contains(err.Error(), "give a positive one") {
		t.Errorf("got %v", err)
	}
}

func TestAPromptIsCutAtAWholeCharacter(t *testing.T) {
	sent := forebay.NewRequest("m", strings.Repeat("a", 8191)+"é and more", 9).GetPromptHead()
	if len(sent) != 8191 {
		t.Errorf("%d bytes were sent", len(sent))
	}
	if all := forebay.NewRequest("m", strings.Repeat("é", 4096), 9).GetPromptHead(); len(all) != 8192 {
		t.Errorf("%d bytes of 8,192 were sent", len(all))
	}
}

func TestRequestsHaveIdsOfTheirOwn(t *testing.T) {
	if one, two := request(), request(); len(one.RequestId) != 32 || one.RequestId == two.RequestId {
		t.Errorf("ids are %q and %q", one.RequestId, two.RequestId)
	}
}

func TestASystemPromptIsNamedByItsDigest(t *testing.T) {
	// printf 'You are brief.' | sha256sum
	if got := forebay.SystemDigest("You are brief."); got != "d4c181f057fc761d" {
		t.Errorf("it is %q", got)
	}
	if forebay.SystemDigest("") != "" {
		t.Error("no prompt has a name")
	}
}

func TestTheServiceConfigIsThatOfAllClients(t *testing.T) {
	shared, err := os.ReadFile("../service_config.json")
	if os.IsNotExist(err) {
		t.Skip("this is not Forebay's repository")
	}
	must(t, err)
	if string(shared) != forebay.ServiceConfig {
		t.Error("service_config.json differs from clients/service_config.json: copy it")
	}
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	made, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	parsed, err := x509.ParseCertificate(made)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{made}, PrivateKey: key}, roots
}
