package wallet

import (
	"context"
	"crypto/tls"
	"time"

	walletv1 "github.com/monay/wallet-go/monay/wallet/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// TokenSource is asked before every try for a token that is valid now. It may be called by many goroutines at once.
type TokenSource func(ctx context.Context) (string, error)

// Token is the source of a token that never changes.
func Token(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// Client has every rpc of ConsumerWalletService as a method. It may be used by many goroutines at once.
//
// WatchBalances and WatchTransactions are its own: they take a handler, and connect anew by themselves.
type Client struct {
	walletv1.ConsumerWalletServiceClient

	Operations walletv1.OperationsServiceClient
	Sandbox    walletv1.SandboxServiceClient

	connection *grpc.ClientConn
	caller     *caller
}

// Option changes what Connect does by itself.
type Option func(*options)

type options struct {
	transport credentials.TransportCredentials
	timeout   time.Duration
	retries   RetryPolicy
	silence   time.Duration
}

// WithTLS replaces the TLS configuration, which otherwise trusts the system's roots.
func WithTLS(config *tls.Config) Option {
	return func(o *options) { o.transport = credentials.NewTLS(config) }
}

// WithPlaintext speaks without TLS, for a wallet on this machine.
func WithPlaintext() Option {
	return func(o *options) { o.transport = insecure.NewCredentials() }
}

// WithTimeout bounds a call with all its tries, where its context has no deadline. It is ten seconds by itself.
func WithTimeout(timeout time.Duration) Option {
	return func(o *options) { o.timeout = timeout }
}

// WithRetries replaces the retry policy.
func WithRetries(policy RetryPolicy) Option {
	return func(o *options) { o.retries = policy }
}

// WithSilence says after how long without any message, not even a heartbeat, a watched stream connects anew. It is
// thirty seconds by itself.
func WithSilence(silence time.Duration) Option {
	return func(o *options) { o.silence = silence }
}

// Connect makes a client. Connecting itself happens with the first call.
func Connect(target string, token TokenSource, changes ...Option) (*Client, error) {
	chosen := options{
		transport: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}),
		timeout:   10 * time.Second,
		retries:   DefaultRetryPolicy(),
		silence:   30 * time.Second,
	}
	for _, change := range changes {
		change(&chosen)
	}
	connection, err := grpc.NewClient(target, dialOptions(chosen.transport)...)
	if err != nil {
		return nil, err
	}
	caller := &caller{connection: connection, token: token, options: chosen}
	return &Client{
		ConsumerWalletServiceClient: walletv1.NewConsumerWalletServiceClient(caller),
		Operations:                  walletv1.NewOperationsServiceClient(caller),
		Sandbox:                     walletv1.NewSandboxServiceClient(caller),
		connection:                  connection,
		caller:                      caller,
	}, nil
}

// Close closes the connection. Calls under way end with Canceled.
func (c *Client) Close() error {
	return c.connection.Close()
}

// A dead connection is noticed within 40 seconds, by pings that the server allows; a lost server is looked for at once
// and then ever more slowly. The client itself decides what is sent again, so gRPC does not.
func dialOptions(transport credentials.TransportCredentials) []grpc.DialOption {
	reconnect := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second}),
		grpc.WithDisableRetry(),
		grpc.WithUserAgent("monay-wallet-go/" + Version),
	}
}
