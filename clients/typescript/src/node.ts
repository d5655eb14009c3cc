// The client for Node.js: gRPC over HTTP/2.
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { SecureClientSessionOptions } from "node:http2";
import { walletClient, type WalletClient } from "./client.js";
import type { Options, TokenSource } from "./options.js";

export interface NodeOptions extends Partial<Options> {
  /** Certificates of your own; false for plain text, towards a wallet on this machine. */
  tls?: boolean | SecureClientSessionOptions;
}

/**
 * Opens a client: `connect("wallet.example.com:443", token)`. Connecting itself happens with the first call. A dead
 * connection is noticed within 40 seconds, by pings that the server allows.
 */
export function connect(target: string, token: TokenSource, { tls = true, ...options }: NodeOptions = {}): WalletClient {
  const baseUrl = `${tls === false ? "http" : "https"}://${target}`;
  const pings = { pingIntervalMs: 30_000, pingTimeoutMs: 10_000 };
  const sessions = new Http2SessionManager(baseUrl, pings, typeof tls === "object" ? tls : {});
  const transport = createGrpcTransport({ baseUrl, sessionManager: sessions });
  return walletClient(transport, token, options, () => sessions.abort());
}
