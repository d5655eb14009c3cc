package main

import (
	"context"
	"math"
	"slices"
	"sync"
	"syscall"
	"time"

	walletv1 "github.com/monay/wallet-go/monay/wallet/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

const deadline = 10 * time.Second

// result is what is printed. Latencies are those of calls that succeeded.
type result struct {
	Calls              int            `json:"calls"`
	Transfers          int            `json:"transfers"`
	Seconds            float64        `json:"seconds"`
	CallsPerSecond     float64        `json:"calls_per_second"`
	TransfersPerSecond float64        `json:"transfers_per_second"`
	Errors             map[string]int `json:"errors"`
	P50Ms              float64        `json:"p50_ms"`
	P95Ms              float64        `json:"p95_ms"`
	P99Ms              float64        `json:"p99_ms"`
	MaxMs              float64        `json:"max_ms"`
	CPUSeconds         float64        `json:"cpu_seconds"`
}

// tally is what one goroutine saw. Only calls that end inside the measured time count.
type tally struct {
	transfers int
	latencies []time.Duration
	errors    map[string]int
}

func measure(ctx context.Context, o options, clients []walletv1.ConsumerWalletServiceClient, send call) *result {
	begin := time.Now().Add(seconds(o.warmup))
	end := begin.Add(seconds(o.seconds))
	tallies := make([]tally, o.inFlight)
	var running sync.WaitGroup
	for i := range tallies {
		running.Go(func() { tallies[i] = drive(ctx, clients[i%len(clients)], send, begin, end) })
	}
	time.Sleep(time.Until(begin))
	before := cpuSeconds()
	time.Sleep(time.Until(end))
	used := cpuSeconds() - before
	running.Wait()
	return summary(tallies, o.seconds, used)
}

func drive(
	ctx context.Context, client walletv1.ConsumerWalletServiceClient, send call, begin, end time.Time,
) tally {
	seen := tally{errors: map[string]int{}}
	for {
		started := time.Now()
		if started.After(end) {
			return seen
		}
		count, refused, err := answered(ctx, client, send)
		ended := time.Now()
		if ended.Before(begin) || ended.After(end) {
			continue
		}
		for _, reason := range refused {
			seen.errors[reason]++
		}
		if err != nil {
			seen.errors[reason(err)]++
			continue
		}
		seen.transfers += count - len(refused)
		seen.latencies = append(seen.latencies, ended.Sub(started))
	}
}

// answered sends with a deadline, as every client should.
func answered(ctx context.Context, client walletv1.ConsumerWalletServiceClient, send call) (int, []string, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	return send(ctx, client)
}

// reason is the wallet's own name for what went wrong, or gRPC's where the wallet gave none.
func reason(err error) string {
	said := status.Convert(err)
	for _, detail := range said.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return said.Code().String()
}

func summary(tallies []tally, measured, cpu float64) *result {
	r := &result{Seconds: measured, CPUSeconds: cpu, Errors: map[string]int{}}
	var latencies []time.Duration
	for _, seen := range tallies {
		r.Transfers += seen.transfers
		latencies = append(latencies, seen.latencies...)
		for reason, count := range seen.errors {
			r.Errors[reason] += count
		}
	}
	slices.Sort(latencies)
	r.Calls = len(latencies)
	r.CallsPerSecond = float64(r.Calls) / measured
	r.TransfersPerSecond = float64(r.Transfers) / measured
	r.P50Ms, r.P95Ms, r.P99Ms = percentile(latencies, 0.50), percentile(latencies, 0.95), percentile(latencies, 0.99)
	r.MaxMs = percentile(latencies, 1)
	return r
}

// percentile is the nearest rank, in milliseconds.
func percentile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := max(int(math.Ceil(share*float64(len(sorted))))-1, 0)
	return float64(sorted[rank].Microseconds()) / 1000
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}
