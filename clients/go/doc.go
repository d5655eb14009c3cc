// Package wallet is the Go client of the Monay consumer wallet.
//
// Connect opens a Client, which has every rpc of ConsumerWalletService as a method; Client.Operations and Client.Sandbox
// have those of the other services. Messages are in package walletv1. The contract says of each rpc what it does, what
// it guarantees and which errors it gives; its text is the documentation of the generated methods.
//
// A call is given a request id before its first try, which is written into the request; it has a deadline that all its
// tries share; what is UNAVAILABLE or says when to come back is sent again, and a token that has expired is replaced
// once. Whatever else happens is returned as *Error.
package wallet

// Version of this module.
const Version = "0.2.0"
