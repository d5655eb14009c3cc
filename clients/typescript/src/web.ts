// The client for browsers: gRPC-Web over fetch, through the wallet's gateway.
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { walletClient, type WalletClient } from "./client.js";
import type { Options, TokenSource } from "./options.js";

/** Opens a client: `connect("https://wallet.example.com", token)`. The token has to be a consumer's own. */
export function connect(baseUrl: string, token: TokenSource, options: Partial<Options> = {}): WalletClient {
  return walletClient(createGrpcWebTransport({ baseUrl }), token, options);
}
