package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	walletv1 "github.com/monay/wallet-go/monay/wallet/v1"
)

const (
	openingAtOnce = 256

	// One stream in so many stops reading after its snapshot, as a telephone in a tunnel does.
	deafOneIn = 100
)

// watching is what is printed after each phase. The reader answers each with a line, so that it can look at the server
// while nothing changes.
type watching struct {
	Phase            string  `json:"phase"`
	Streams          int     `json:"streams"`
	Seconds          float64 `json:"seconds"`
	Updates          int     `json:"updates"`
	UpdatesPerSecond float64 `json:"updates_per_second"`
	P50Ms            float64 `json:"p50_ms"`
	P99Ms            float64 `json:"p99_ms"`
	MaxMs            float64 `json:"max_ms"`
	Failed           int     `json:"failed"`
}

// watchers are streams that are open together.
type watchers struct {
	cancel    context.CancelFunc
	running   sync.WaitGroup
	measuring atomic.Bool
	failed    atomic.Int64
	lock      sync.Mutex
	latencies []time.Duration
}

// watch opens streams, lets money move among those who watch, and has all of them come back at once.
func watch(ctx context.Context, o options, clients, payers []walletv1.ConsumerWalletServiceClient, accounts []string) error {
	if len(accounts) < o.streams {
		return fmt.Errorf("%d streams need as many accounts, there are %d", o.streams, len(accounts))
	}
	watched := accounts[:o.streams]
	first, took := open(ctx, clients, watched, openingAtOnce)
	report(watching{Phase: "open", Streams: o.streams, Seconds: took.Seconds(), Failed: int(first.failed.Load())})
	report(first.listen(ctx, o, payers, parties{accounts: watched}))
	first.close()
	second, took := open(ctx, clients, watched, o.streams)
	report(watching{Phase: "storm", Streams: o.streams, Seconds: took.Seconds(), Failed: int(second.failed.Load())})
	second.close()
	return nil
}

// open returns when every stream has had its snapshot or has failed.
func open(
	ctx context.Context, clients []walletv1.ConsumerWalletServiceClient, accounts []string, atOnce int,
) (*watchers, time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watchers{cancel: cancel}
	started := time.Now()
	turn := make(chan struct{}, atOnce)
	var opened sync.WaitGroup
	for i, account := range accounts {
		turn <- struct{}{}
		opened.Add(1)
		ready := sync.OnceFunc(func() { <-turn; opened.Done() })
		w.running.Go(func() {
			defer ready()
			w.follow(ctx, clients[i%len(clients)], account, i%deafOneIn == deafOneIn-1, ready)
		})
	}
	opened.Wait()
	return w, time.Since(started)
}

func (w *watchers) follow(
	ctx context.Context, client walletv1.ConsumerWalletServiceClient, account string, deaf bool, ready func(),
) {
	stream, err := client.WatchBalances(ctx, &walletv1.WatchBalancesRequest{ConsumerId: account})
	if err != nil {
		w.failed.Add(1)
		return
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			if ctx.Err() == nil {
				w.failed.Add(1)
			}
			return
		}
		ready()
		if deaf {
			<-ctx.Done()
			return
		}
		if update := message.GetUpdate(); update != nil && w.measuring.Load() {
			w.note(time.Since(update.GetChangeTime().AsTime()))
		}
	}
}

func (w *watchers) note(latency time.Duration) {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.latencies = append(w.latencies, latency)
}

// listen has transfers made at an even pace, and sums up how long after its commit's beginning each update arrived.
func (w *watchers) listen(
	ctx context.Context, o options, clients []walletv1.ConsumerWalletServiceClient, p parties,
) watching {
	pace := time.NewTicker(seconds(1 / o.rate))
	defer pace.Stop()
	send, end := transfer(p), time.Now().Add(seconds(o.warmup+o.seconds))
	begin := time.Now().Add(seconds(o.warmup))
	var paying sync.WaitGroup
	for i := 0; time.Now().Before(end); i++ {
		<-pace.C
		w.measuring.Store(time.Now().After(begin))
		paying.Go(func() {
			if _, _, err := answered(ctx, clients[i%len(clients)], send); err != nil {
				w.failed.Add(1)
			}
		})
	}
	paying.Wait()
	w.measuring.Store(false)
	w.lock.Lock()
	defer w.lock.Unlock()
	slices.Sort(w.latencies)
	return watching{
		Phase: "updates", Streams: o.streams, Seconds: o.seconds, Updates: len(w.latencies),
		UpdatesPerSecond: float64(len(w.latencies)) / o.seconds,
		P50Ms:            percentile(w.latencies, 0.50), P99Ms: percentile(w.latencies, 0.99),
		MaxMs: percentile(w.latencies, 1), Failed: int(w.failed.Load()),
	}
}

func (w *watchers) close() {
	w.cancel()
	w.running.Wait()
}

var answers = bufio.NewScanner(os.Stdin)

// report prints a phase and waits until its reader has looked around.
func report(phase watching) {
	if err := json.NewEncoder(os.Stdout).Encode(phase); err == nil {
		answers.Scan()
	}
}
