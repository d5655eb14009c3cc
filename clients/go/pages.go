package wallet

import (
	"context"
	"iter"

	walletv1 "github.com/monay/wallet-go/monay/wallet/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Transactions are those that ListTransactions lists, page after page. An error ends them.
func (c *Client) Transactions(ctx context.Context, request *walletv1.ListTransactionsRequest) iter.Seq2[*walletv1.Transaction, error] {
	return Each(ctx, c.ListTransactions, request, (*walletv1.ListTransactionsResponse).GetTransactions)
}

// BankAccounts are those that ListBankAccounts lists, page after page. An error ends them.
func (c *Client) BankAccounts(ctx context.Context, request *walletv1.ListBankAccountsRequest) iter.Seq2[*walletv1.BankAccount, error] {
	return Each(ctx, c.ListBankAccounts, request, (*walletv1.ListBankAccountsResponse).GetBankAccounts)
}

// PaymentRequests are those that ListPaymentRequests lists, page after page. An error ends them.
func (c *Client) PaymentRequests(ctx context.Context, request *walletv1.ListPaymentRequestsRequest) iter.Seq2[*walletv1.PaymentRequest, error] {
	return Each(ctx, c.ListPaymentRequests, request, (*walletv1.ListPaymentRequestsResponse).GetPaymentRequests)
}

// ScheduledTransfers are those that ListScheduledTransfers lists, page after page. An error ends them.
func (c *Client) ScheduledTransfers(ctx context.Context, request *walletv1.ListScheduledTransfersRequest) iter.Seq2[*walletv1.ScheduledTransfer, error] {
	return Each(ctx, c.ListScheduledTransfers, request, (*walletv1.ListScheduledTransfersResponse).GetScheduledTransfers)
}

// PageRequest is the request of a list rpc.
type PageRequest interface {
	proto.Message
	GetPageToken() string
}

// PageResponse is the response of a list rpc.
type PageResponse interface {
	proto.Message
	GetNextPageToken() string
}

// Each reads all pages of a list rpc, those of Operations among them. The request is left as it is.
func Each[Request PageRequest, Response PageResponse, Item any](
	ctx context.Context,
	list func(context.Context, Request, ...grpc.CallOption) (Response, error),
	request Request,
	items func(Response) []Item,
) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		page := proto.CloneOf(request)
		for {
			response, err := list(ctx, page)
			if err != nil {
				var none Item
				yield(none, err)
				return
			}
			for _, item := range items(response) {
				if !yield(item, nil) {
					return
				}
			}
			if response.GetNextPageToken() == "" {
				return
			}
			reflected := page.ProtoReflect()
			reflected.Set(reflected.Descriptor().Fields().ByName("page_token"), protoreflect.ValueOfString(response.GetNextPageToken()))
		}
	}
}
