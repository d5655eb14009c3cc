// The conformance driver of the Go client. tests/sdks/driver.py says what it is asked.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	wallet "github.com/monay/wallet-go"
	walletv1 "github.com/monay/wallet-go/monay/wallet/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

type command struct {
	Do, Client, Target, Rpc, Watch, Asset, Amount, Micros string

	Tokens  []string
	Timeout float64
	Request json.RawMessage
	FailAt  int
}

type answer map[string]any

var errHandler = errors.New("the handler failed, as it was told to")

// driver is what the commands have made so far.
type driver struct {
	clients map[string]*wallet.Client
	watches map[string]*watch
}

func main() {
	d := driver{clients: map[string]*wallet.Client{}, watches: map[string]*watch{}}
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		if err := out.Encode(d.obey(line)); err != nil {
			return
		}
	}
}

func (d *driver) obey(line []byte) answer {
	var c command
	if err := json.Unmarshal(line, &c); err != nil {
		return answer{"fault": err.Error()}
	}
	switch c.Do {
	case "connect":
		return d.connect(c)
	case "call":
		return d.call(c)
	case "each":
		return d.each(c)
	case "watch":
		d.watches[c.Watch] = newWatch(d.clients[c.Client], c)
		return answer{}
	case "seen":
		return d.watches[c.Watch].seen()
	case "unwatch":
		d.watches[c.Watch].cancel()
		return answer{}
	case "parse":
		money, err := wallet.Money(c.Asset, c.Amount)
		if err != nil {
			return answer{"refused": true}
		}
		return answer{"micros": strconv.FormatInt(money.GetMicros(), 10)}
	case "format":
		count, err := strconv.ParseInt(c.Micros, 10, 64)
		if err != nil {
			return answer{"fault": err.Error()}
		}
		return answer{"amount": wallet.Decimal(count)}
	}
	return answer{"fault": "no command " + c.Do}
}

func (d *driver) connect(c command) answer {
	tokens := c.Tokens
	next := func(context.Context) (string, error) {
		token := tokens[0]
		if len(tokens) > 1 {
			tokens = tokens[1:]
		}
		return token, nil
	}
	timeout := time.Duration(c.Timeout * float64(time.Second))
	client, err := wallet.Connect(c.Target, next, wallet.WithPlaintext(), wallet.WithTimeout(timeout))
	if err != nil {
		return answer{"fault": err.Error()}
	}
	d.clients[c.Client] = client
	return answer{}
}

func (d *driver) call(c command) answer {
	client := d.clients[c.Client]
	ctx := context.Background()
	if c.Timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(c.Timeout*float64(time.Second)))
		defer cancel()
		ctx = limited
	}
	calls := map[string]func() answer{
		"Onboard":          func() answer { return unary(ctx, c, &walletv1.OnboardRequest{}, client.Onboard) },
		"GetLimits":        func() answer { return unary(ctx, c, &walletv1.GetLimitsRequest{}, client.GetLimits) },
		"GetBalance":       func() answer { return unary(ctx, c, &walletv1.GetBalanceRequest{}, client.GetBalance) },
		"Transfer":         func() answer { return unary(ctx, c, &walletv1.TransferRequest{}, client.Transfer) },
		"BatchTransfer":    func() answer { return unary(ctx, c, &walletv1.BatchTransferRequest{}, client.BatchTransfer) },
		"ListTransactions": func() answer { return unary(ctx, c, &walletv1.ListTransactionsRequest{}, client.ListTransactions) },
		"Faucet":           func() answer { return unary(ctx, c, &walletv1.FaucetRequest{}, client.Sandbox.Faucet) },
	}
	call, known := calls[c.Rpc]
	if !known {
		return answer{"fault": "no rpc " + c.Rpc}
	}
	return call()
}

func unary[Request, Response proto.Message, Option any](
	ctx context.Context, c command, request Request, call func(context.Context, Request, ...Option) (Response, error),
) answer {
	if err := protojson.Unmarshal(c.Request, request); err != nil {
		return answer{"fault": err.Error()}
	}
	response, err := call(ctx, request)
	if err != nil {
		return answer{"error": described(err)}
	}
	return answer{"answer": asJSON(response)}
}

func (d *driver) each(c command) answer {
	request := &walletv1.ListTransactionsRequest{}
	if err := protojson.Unmarshal(c.Request, request); err != nil {
		return answer{"fault": err.Error()}
	}
	items := []json.RawMessage{}
	for transaction, err := range d.clients[c.Client].Transactions(context.Background(), request) {
		if err != nil {
			return answer{"error": described(err)}
		}
		items = append(items, asJSON(transaction))
	}
	return answer{"items": items}
}

// watch is a watched stream in a goroutine of its own, all it has seen, and where it stands.
type watch struct {
	cancel context.CancelFunc

	mutex  sync.Mutex
	events []json.RawMessage
	cursor string
	calls  int
	failAt int
	err    answer
}

func newWatch(client *wallet.Client, c command) *watch {
	var request struct{ ConsumerID, ResumeCursor string }
	_ = json.Unmarshal(c.Request, &request)
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{cancel: cancel, cursor: request.ResumeCursor, failAt: c.FailAt, events: []json.RawMessage{}}
	go func() {
		for {
			var err error
			if c.Rpc == "WatchBalances" {
				err = client.WatchBalances(ctx, request.ConsumerID, func(_ context.Context, balance *walletv1.Balance) error {
					return w.handle(balance)
				})
			} else {
				from := wallet.Position{Cursor: w.position(), Save: w.save}
				err = client.WatchTransactions(ctx, request.ConsumerID, from, func(_ context.Context, event *walletv1.WatchTransactionsResponse) error {
					return w.handle(event)
				})
			}
			if !errors.Is(err, errHandler) {
				w.end(ctx, err)
				return
			}
		}
	}()
	return w
}

func (w *watch) handle(event proto.Message) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.calls++
	if w.calls == w.failAt {
		return errHandler
	}
	w.events = append(w.events, asJSON(event))
	return nil
}

func (w *watch) save(_ context.Context, cursor string) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.cursor = cursor
	return nil
}

func (w *watch) position() string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.cursor
}

func (w *watch) end(ctx context.Context, err error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if ctx.Err() == nil {
		w.err = described(err)
	}
}

func (w *watch) seen() answer {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return answer{"events": w.events, "cursor": w.cursor, "error": w.err}
}

// described is an error in the words that all drivers use.
func described(err error) answer {
	var refused *wallet.Error
	if !errors.As(err, &refused) {
		return answer{"code": "UNTYPED", "reason": err.Error()}
	}
	violations := []string{}
	for _, violation := range refused.Violations {
		violations = append(violations, violation.Field)
	}
	return answer{
		"code":       screaming(refused.Code),
		"reason":     refused.ReasonName,
		"facts":      refused.Facts,
		"definite":   refused.Definite,
		"requestId":  refused.RequestID,
		"violations": violations,
	}
}

// screaming is a code's name as the contract writes it: FailedPrecondition as FAILED_PRECONDITION.
func screaming(code codes.Code) string {
	var name strings.Builder
	for index, letter := range code.String() {
		if index > 0 && letter >= 'A' && letter <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(letter)
	}
	return strings.ToUpper(name.String())
}

func asJSON(message proto.Message) json.RawMessage {
	text, err := protojson.Marshal(message)
	if err != nil {
		panic(err)
	}
	return text
}
