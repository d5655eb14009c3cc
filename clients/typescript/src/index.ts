/**
 * The Monay consumer wallet, for TypeScript and JavaScript. `connect` comes from `@monay/wallet/node` or
 * `@monay/wallet/web`; everything else is here, the messages among it.
 */
export { decimal, micros, money } from "./amounts.js";
export { walletClient, type WalletClient, type WatchOptions, type WatchTransactionsOptions } from "./client.js";
export { type Violation, WalletError } from "./errors.js";
export { DEFAULT_OPTIONS, type Options, type RetryPolicy, type TokenSource } from "./options.js";
export { pages } from "./pages.js";
export { newRequestId } from "./requests.js";
export { VERSION } from "./version.js";
export * from "./gen/monay/wallet/v1/consumer_pb.js";
export * from "./gen/monay/wallet/v1/consumer_wallet_service_pb.js";
export { ErrorReason } from "./gen/monay/wallet/v1/error_reason_pb.js";
export * from "./gen/monay/wallet/v1/money_pb.js";
export * from "./gen/monay/wallet/v1/operations_service_pb.js";
export * from "./gen/monay/wallet/v1/provider_pb.js";
export * from "./gen/monay/wallet/v1/sandbox_service_pb.js";
export * from "./gen/monay/wallet/v1/transaction_pb.js";
export * from "./gen/monay/wallet/v1/transfer_pb.js";
