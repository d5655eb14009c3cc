package main

import (
	"context"

	walletv1 "github.com/monay/wallet-go/monay/wallet/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// connect opens the connections, each with a client of its own.
func connect(o options, token string) ([]walletv1.ConsumerWalletServiceClient, func(), error) {
	transport := insecure.NewCredentials()
	if o.caFile != "" {
		tls, err := credentials.NewClientTLSFromFile(o.caFile, "")
		if err != nil {
			return nil, nil, err
		}
		transport = tls
	}
	var connections []*grpc.ClientConn
	var clients []walletv1.ConsumerWalletServiceClient
	closeAll := func() {
		for _, connection := range connections {
			connection.Close()
		}
	}
	for range o.connections {
		connection, err := grpc.NewClient(o.target,
			grpc.WithTransportCredentials(transport), grpc.WithPerRPCCredentials(bearer(token)))
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		connections = append(connections, connection)
		clients = append(clients, walletv1.NewConsumerWalletServiceClient(connection))
	}
	return clients, closeAll, nil
}

// bearer sends a token with every call, also without TLS: what is measured here runs on one machine.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (b bearer) RequireTransportSecurity() bool { return false }
