package wallet

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// caller carries the calls of one client, for the generated code above it.
type caller struct {
	connection *grpc.ClientConn
	token      TokenSource
	options    options
}

// Invoke makes one call, with as many tries as it takes and is worth.
func (c *caller) Invoke(ctx context.Context, method string, request, response any, callOptions ...grpc.CallOption) error {
	requestID := nameIntent(request)
	if _, bounded := ctx.Deadline(); !bounded {
		limited, cancel := context.WithTimeout(ctx, c.options.timeout)
		defer cancel()
		ctx = limited
	}
	tries := tries{policy: c.options.retries, repeatable: repeatable(method, request)}
	expired := ""
	for {
		token, err := c.token(ctx)
		if err != nil {
			return err
		}
		var trailers metadata.MD
		sent := append(callOptions[:len(callOptions):len(callOptions)], grpc.Trailer(&trailers))
		err = c.connection.Invoke(bearer(ctx, token), method, request, response, sent...)
		if err == nil {
			return nil
		}
		refused := newError(err, trailers, requestID)
		if refused.tokenExpired() && expired == "" {
			expired = token
			if next, err := c.token(ctx); err == nil && next != expired {
				continue
			}
		}
		pause, again := tries.pauseAfter(ctx, refused)
		if !again {
			return refused
		}
		if err := sleep(ctx, pause); err != nil {
			return refused
		}
	}
}

// NewStream opens a stream. Streams that have an end are not repeated: who reads them knows what was read.
func (c *caller) NewStream(ctx context.Context, description *grpc.StreamDesc, method string, callOptions ...grpc.CallOption) (grpc.ClientStream, error) {
	token, err := c.token(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := c.connection.NewStream(bearer(ctx, token), description, method, callOptions...)
	if err != nil {
		return nil, newError(err, nil, "")
	}
	return &typedStream{ClientStream: stream}, nil
}

// typedStream is a stream whose errors are *Error.
type typedStream struct {
	grpc.ClientStream
}

func (s *typedStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err == nil || isEnd(err) {
		return err
	}
	return newError(err, s.Trailer(), "")
}

// bearer adds the token. Without one there is none to add: GetHealth needs none.
func bearer(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
