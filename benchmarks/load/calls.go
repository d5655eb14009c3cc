package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/google/uuid"
	walletv1 "github.com/monay/wallet-go/monay/wallet/v1"
)

const asset = "USDC"

// call sends one message and says how many transfers it carried and which of them were refused, by reason.
type call func(ctx context.Context, client walletv1.ConsumerWalletServiceClient) (int, []string, error)

// parties draws who pays whom. With hot, everybody pays one account, as customers pay a merchant.
type parties struct {
	accounts []string
	hot      bool
}

func (p parties) draw() (sender, recipient string) {
	count := len(p.accounts)
	to := count / 2
	if !p.hot {
		to = rand.IntN(count)
	}
	// Any other account: the distance to the recipient is never a full circle.
	from := (to + 1 + rand.IntN(count-1)) % count
	return p.accounts[from], p.accounts[to]
}

func sender(rpc string, p parties, size int) (call, error) {
	switch rpc {
	case "transfer":
		return transfer(p), nil
	case "submit":
		return submit(p, size), nil
	case "batch":
		return batch(p, size), nil
	case "balance":
		return balance(p), nil
	case "portfolio":
		return portfolio(p), nil
	case "history":
		return history(p), nil
	}
	return nil, fmt.Errorf("-rpc %s is none of transfer, submit, batch", rpc)
}

func transfer(p parties) call {
	return func(ctx context.Context, client walletv1.ConsumerWalletServiceClient) (int, []string, error) {
		_, err := client.Transfer(ctx, newTransfer(p))
		return 1, nil, err
	}
}

func submit(p parties, size int) call {
	return func(ctx context.Context, client walletv1.ConsumerWalletServiceClient) (int, []string, error) {
		request := &walletv1.SubmitTransfersRequest{Transfers: make([]*walletv1.TransferRequest, size)}
		for i := range request.Transfers {
			request.Transfers[i] = newTransfer(p)
		}
		response, err := client.SubmitTransfers(ctx, request)
		var refused []string
		for _, outcome := range response.GetResults() {
			if failure := outcome.GetError(); failure != nil {
				refused = append(refused, failure.GetReason().String())
			}
		}
		return size, refused, err
	}
}

func batch(p parties, size int) call {
	return func(ctx context.Context, client walletv1.ConsumerWalletServiceClient) (int, []string, error) {
		payer, _ := p.draw()
		request := &walletv1.BatchTransferRequest{ConsumerId: payer, RequestId: newID()}
		for len(request.Items) < size {
			_, recipient := p.draw()
			if recipient != payer {
				request.Items = append(request.Items, &walletv1.BatchTransferItem{Recipient: to(recipient), Amount: amount()})
			}
		}
		_, err := client.BatchTransfer(ctx, request)
		return size, nil, err
	}
}

// The three reads carry no transfers: their figures are calls.

func balance(p parties) call {
	return func(ctx context.Context, client walletv1.ConsumerWalletServiceClient) (int, []string, error) {
		consumer, _ := p.draw()
		_, err := client.GetBalance(ctx, &walletv1.GetBalanceRequest{ConsumerId: consumer})
		return 1, nil, err
	}
}

func portfolio(p parties) call {
	return func(ctx context.Context, client walletv1.ConsumerWalletServiceClient) (int, []string, error) {
		consumer, _ := p.draw()
		_, err := client.GetPortfolio(ctx, &walletv1.GetPortfolioRequest{ConsumerId: consumer})
		return 1, nil, err
	}
}

func history(p parties) call {
	return func(ctx context.Context, client walletv1.ConsumerWalletServiceClient) (int, []string, error) {
		consumer, _ := p.draw()
		_, err := client.ListTransactions(ctx, &walletv1.ListTransactionsRequest{ConsumerId: consumer})
		return 1, nil, err
	}
}

func newTransfer(p parties) *walletv1.TransferRequest {
	payer, recipient := p.draw()
	return &walletv1.TransferRequest{ConsumerId: payer, RequestId: newID(), Recipient: to(recipient), Amount: amount()}
}

func to(consumer string) *walletv1.Recipient {
	return &walletv1.Recipient{By: &walletv1.Recipient_ConsumerId{ConsumerId: consumer}}
}

func amount() *walletv1.Money {
	return &walletv1.Money{Asset: asset, Micros: 1 + rand.Int64N(1000)}
}

func newID() string {
	return uuid.Must(uuid.NewV7()).String()
}
