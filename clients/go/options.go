package forebay

import (
	"context"
	"crypto/tls"
	_ "embed"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// ServiceConfig is gRPC's service config, the same in all of Forebay's clients: every write carries an id that makes it
// safe to repeat, so one retry policy serves all methods. grpc-go before 1.40 retries only with GRPC_GO_RETRY=on.
//
//go:embed service_config.json
var ServiceConfig string

const defaultTimeout = 10 * time.Second

// Addresses says where the services listen, host:port each. Empty ones are those of `forebay up`.
type Addresses struct {
	Scheduler  string // 127.0.0.1:7101
	Predictor  string // 127.0.0.1:7102
	Autoscaler string // 127.0.0.1:7103
	Gateway    string // 127.0.0.1:7081, its gRPC port
}

// Options configures a client. The zero value talks to `forebay up` in plain text.
type Options struct {
	// Addresses of the services.
	Addresses Addresses
	// Timeout of every call that is no stream; a context that ends sooner wins. 10 s where it is 0.
	Timeout time.Duration
	// TLS secures the connections; nil is plain text.
	TLS *tls.Config
	// Key of the tenant, where the gateway wants one. DeferredClient only.
	Key string
	// Tenant names the tenant where no key does. DeferredClient only.
	Tenant string
	// DialOptions come after the client's own: interceptors, balancers, and stats handlers such as OpenTelemetry's
	// otelgrpc.NewClientHandler.
	DialOptions []grpc.DialOption
}

func (o Options) withDefaults() Options {
	o.Addresses = Addresses{
		Scheduler:  or(o.Addresses.Scheduler, "127.0.0.1:7101"),
		Predictor:  or(o.Addresses.Predictor, "127.0.0.1:7102"),
		Autoscaler: or(o.Addresses.Autoscaler, "127.0.0.1:7103"),
		Gateway:    or(o.Addresses.Gateway, "127.0.0.1:7081"),
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	return o
}

// dial uses calls that every grpc-go 1.x since 1.33 has.
func (o Options) dial(address string) (*grpc.ClientConn, error) {
	if o.Timeout < 0 {
		return nil, fmt.Errorf("forebay: Options.Timeout is %v; give a positive one, or 0 for %v", o.Timeout, defaultTimeout)
	}
	security := grpc.WithInsecure()
	if o.TLS != nil {
		security = grpc.WithTransportCredentials(credentials.NewTLS(o.TLS))
	}
	options := append([]grpc.DialOption{
		security,
		grpc.WithDefaultServiceConfig(ServiceConfig),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second}),
	}, o.DialOptions...)
	connection, err := grpc.Dial(address, options...)
	if err != nil {
		return nil, fmt.Errorf("forebay: cannot use the address %q: %w", address, err)
	}
	return connection, nil
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

type timeouts struct{ call time.Duration }

func (t timeouts) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, t.call)
}
