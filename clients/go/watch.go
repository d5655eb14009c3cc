package wallet

import (
	"context"
	"errors"
	"time"

	walletv1 "github.com/monay/wallet-go/monay/wallet/v1"
	"google.golang.org/grpc"
)

// WatchBalances hands over each balance of the wallet, and each newer one as it changes, until the context ends.
//
// It connects anew whenever the stream ends or falls silent. What was handed over already is not repeated, and an error
// of the handler ends the watch and is returned. An empty consumerID is the token's own.
func (c *Client) WatchBalances(ctx context.Context, consumerID string, handler func(context.Context, *walletv1.Balance) error) error {
	newest := newest{}
	open := func(ctx context.Context) (grpc.ServerStreamingClient[walletv1.WatchBalancesResponse], error) {
		return c.ConsumerWalletServiceClient.WatchBalances(ctx, &walletv1.WatchBalancesRequest{ConsumerId: consumerID})
	}
	return watch(ctx, c.caller, open, func(message *walletv1.WatchBalancesResponse) error {
		for _, balance := range newest.among(message) {
			if err := handler(ctx, balance); err != nil {
				return err
			}
		}
		return nil
	})
}

// Position says where a watch of transactions begins, and is told where it stands.
type Position struct {
	// Cursor of the last message that was dealt with. Empty: from now on.
	Cursor string
	// Save is given each cursor after its message was dealt with, if it is set. Its error ends the watch.
	Save func(ctx context.Context, cursor string) error
}

// WatchTransactions hands over each transaction and settlement update behind the position's cursor, until the context
// ends.
//
// It connects anew whenever the stream ends or falls silent, at the cursor of the last message that was dealt with. The
// cursor moves on, and is saved, only after the handler has returned without an error, so a message whose handling
// failed comes again. An error of the handler ends the watch and is returned.
func (c *Client) WatchTransactions(ctx context.Context, consumerID string, from Position, handler func(context.Context, *walletv1.WatchTransactionsResponse) error) error {
	request := &walletv1.WatchTransactionsRequest{ConsumerId: consumerID, ResumeCursor: from.Cursor}
	open := func(ctx context.Context) (grpc.ServerStreamingClient[walletv1.WatchTransactionsResponse], error) {
		return c.ConsumerWalletServiceClient.WatchTransactions(ctx, request)
	}
	return watch(ctx, c.caller, open, func(message *walletv1.WatchTransactionsResponse) error {
		if message.GetHeartbeat() == nil {
			if err := handler(ctx, message); err != nil {
				return err
			}
		}
		request.ResumeCursor = message.GetCursor()
		if from.Save == nil {
			return nil
		}
		return from.Save(ctx, message.GetCursor())
	})
}

// watch deals with the messages of a stream without end, over as many connections as it takes.
func watch[Message any](
	ctx context.Context,
	caller *caller,
	open func(context.Context) (grpc.ServerStreamingClient[Message], error),
	deal func(*Message) error,
) error {
	policy, failures, expired := caller.options.retries, 0, false
	for {
		heard, dealing, err := once(ctx, caller.options.silence, open, deal)
		if dealing {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if heard {
			failures, expired = 0, false
		}
		var refused *Error
		if errors.As(err, &refused) {
			// A token that has expired twice in a row is not going to be replaced.
			if refused.tokenExpired() && expired || !refused.tokenExpired() && !refused.passing() {
				return err
			}
			expired = refused.tokenExpired()
		} else if err != nil && !isEnd(err) && !errors.Is(err, errSilent) {
			return err
		}
		failures++
		if err := sleep(ctx, pauseBefore(failures, policy.FirstPause, policy.StreamPause)); err != nil {
			return err
		}
	}
}

var errSilent = errors.New("the stream fell silent")

// once deals with the messages of one connection. It tells whether there were any, and whether the error is the
// handler's.
func once[Message any](
	ctx context.Context,
	silence time.Duration,
	open func(context.Context) (grpc.ServerStreamingClient[Message], error),
	deal func(*Message) error,
) (heard, dealing bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := open(ctx)
	if err != nil {
		return false, false, err
	}
	for {
		alarm := time.AfterFunc(silence, func() { cancel(errSilent) })
		message, err := stream.Recv()
		alarm.Stop()
		if err != nil && errors.Is(context.Cause(ctx), errSilent) {
			return heard, false, errSilent
		}
		if err != nil {
			return heard, false, err
		}
		heard = true
		if err := deal(message); err != nil {
			return heard, true, err
		}
	}
}

// newest is the version of each asset that was handed over last, over all connections of one watch.
type newest map[string]int64

// among are the balances of a message that say something new. A snapshot is the truth whatever was known, so in it any
// other version is news, also a lower one: that is a wallet which was restored.
func (n newest) among(message *walletv1.WatchBalancesResponse) []*walletv1.Balance {
	var news []*walletv1.Balance
	for _, balance := range message.GetSnapshot().GetBalances() {
		if version, known := n[balance.GetAsset()]; !known || version != balance.GetVersion() {
			news = append(news, balance)
		}
	}
	if update := message.GetUpdate(); update != nil && update.GetVersion() > n[update.GetAsset()] {
		news = append(news, update)
	}
	for _, balance := range news {
		n[balance.GetAsset()] = balance.GetVersion()
	}
	return news
}
