// Command load drives a wallet server with transfers and prints what it measured as JSON.
//
// It is a closed loop: each of -in-flight goroutines sends its next call when the last one was answered, over
// -connections connections. Every call carries a fresh request id, so that nothing is answered from an earlier call.
// Its own processor time stands in the result, because on one machine it competes with the server it measures.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

type options struct {
	target       string
	payments     string
	tokenFile    string
	accountsFile string
	caFile       string
	rpc          string
	hot          bool
	size         int
	inFlight     int
	connections  int
	streams      int
	rate         float64
	seconds      float64
	warmup       float64
}

func main() {
	o := parse()
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func parse() options {
	var o options
	flag.StringVar(&o.target, "target", "127.0.0.1:50051", "the server's `address`")
	flag.StringVar(&o.payments, "payments-target", "", "where watch sends its transfers, if not to the same server")
	flag.StringVar(&o.tokenFile, "token-file", "", "a `file` that holds a service's token")
	flag.StringVar(&o.accountsFile, "accounts-file", "", "a `file` of consumer ids, one a line")
	flag.StringVar(&o.caFile, "ca-file", "", "speak TLS and trust this certificate `file`")
	flag.StringVar(&o.rpc, "rpc", "transfer", "transfer, submit (SubmitTransfers), batch (BatchTransfer), balance, portfolio, history or watch (WatchBalances)")
	flag.BoolVar(&o.hot, "hot", false, "pay everything to one account, the one in the middle of the file")
	flag.IntVar(&o.size, "size", 100, "transfers in one message of submit and batch")
	flag.IntVar(&o.inFlight, "in-flight", 64, "calls that wait for an answer at any time")
	flag.IntVar(&o.connections, "connections", 8, "connections the calls are spread over")
	flag.IntVar(&o.streams, "streams", 1000, "open streams of watch")
	flag.Float64Var(&o.rate, "rate", 500, "transfers a second among those who watch, two updates each")
	flag.Float64Var(&o.seconds, "seconds", 5, "how long to measure")
	flag.Float64Var(&o.warmup, "warmup", 0.5, "seconds of load before that")
	flag.Parse()
	return o
}

func run(ctx context.Context, o options) error {
	token, err := os.ReadFile(o.tokenFile)
	if err != nil {
		return err
	}
	accounts, err := readLines(o.accountsFile)
	if err != nil {
		return err
	}
	if len(accounts) < 2 {
		return fmt.Errorf("%s names fewer than two accounts", o.accountsFile)
	}
	clients, closeAll, err := connect(o, strings.TrimSpace(string(token)))
	if err != nil {
		return err
	}
	defer closeAll()
	if o.rpc == "watch" {
		payers := clients
		if o.payments != "" {
			o.target = o.payments
			var closePayers func()
			if payers, closePayers, err = connect(o, strings.TrimSpace(string(token))); err != nil {
				return err
			}
			defer closePayers()
		}
		return watch(ctx, o, clients, payers, accounts)
	}
	send, err := sender(o.rpc, parties{accounts: accounts, hot: o.hot}, o.size)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(measure(ctx, o, clients, send))
}

func readLines(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var lines []string
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		if line := strings.TrimSpace(scanner.Text()); line != "" {
			lines = append(lines, line)
		}
	}
	return lines, scanner.Err()
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second))
}
