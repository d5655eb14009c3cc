// The client over any transport; ./node.ts and ./web.ts make the transport.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, type Client, createClient, type Transport } from "@connectrpc/connect";
import { Caller } from "./caller.js";
import type { BankAccount, ListBankAccountsRequestSchema } from "./gen/monay/wallet/v1/consumer_pb.js";
import { ConsumerWalletService } from "./gen/monay/wallet/v1/consumer_wallet_service_pb.js";
import type { Balance } from "./gen/monay/wallet/v1/money_pb.js";
import { OperationsService } from "./gen/monay/wallet/v1/operations_service_pb.js";
import { SandboxService } from "./gen/monay/wallet/v1/sandbox_service_pb.js";
import type {
  ListTransactionsRequestSchema,
  Transaction,
  WatchTransactionsResponse,
} from "./gen/monay/wallet/v1/transaction_pb.js";
import type {
  ListPaymentRequestsRequestSchema,
  ListScheduledTransfersRequestSchema,
  PaymentRequest,
  ScheduledTransfer,
} from "./gen/monay/wallet/v1/transfer_pb.js";
import { DEFAULT_OPTIONS, type Options, type TokenSource } from "./options.js";
import { pages } from "./pages.js";
import { Newest, watch } from "./watching.js";

type Rpcs = Omit<Client<typeof ConsumerWalletService>, "watchBalances" | "watchTransactions">;
type Handler<Event> = (event: Event) => void | Promise<void>;

export interface WatchOptions {
  /** Empty: the token's own. */
  consumerId?: string;
  /** Ends the watch, which then resolves. */
  signal?: AbortSignal;
}

export interface WatchTransactionsOptions extends WatchOptions {
  /** Of the last message that was dealt with. Empty: from now on. */
  resumeCursor?: string;
  /** Is given each cursor after its message was dealt with. What it throws ends the watch. */
  saveCursor?: Handler<string>;
}

/**
 * Every rpc of ConsumerWalletService as a method; `operations` and `sandbox` have those of the other services.
 *
 * A call is given a request id before its first try, which is written into the request; it has a deadline that all its
 * tries share; what is UNAVAILABLE or says when to come back is sent again, and a token that has expired is replaced
 * once. Whatever else happens is thrown as WalletError.
 */
export interface WalletClient extends Rpcs {
  readonly operations: Client<typeof OperationsService>;
  readonly sandbox: Client<typeof SandboxService>;

  /**
   * Hands over each balance of the wallet, and each newer one as it changes, until the signal is given.
   *
   * Connects anew whenever the stream ends or falls silent. What was handed over already is not repeated, and what the
   * handler throws ends the watch.
   */
  watchBalances(handler: Handler<Balance>, options?: WatchOptions): Promise<void>;

  /**
   * Hands over each transaction and settlement update behind the cursor, until the signal is given.
   *
   * Connects anew whenever the stream ends or falls silent, at the cursor of the last message that was dealt with. The
   * cursor moves on, and is given to `saveCursor`, only after the handler is done, so a message whose handling failed
   * comes again. What the handler throws ends the watch.
   */
  watchTransactions(handler: Handler<WatchTransactionsResponse>, options?: WatchTransactionsOptions): Promise<void>;

  /** All that listTransactions lists, page after page; and so on. */
  transactions(request: MessageInitShape<typeof ListTransactionsRequestSchema>, options?: CallOptions): AsyncIterable<Transaction>;
  bankAccounts(request: MessageInitShape<typeof ListBankAccountsRequestSchema>, options?: CallOptions): AsyncIterable<BankAccount>;
  paymentRequests(request: MessageInitShape<typeof ListPaymentRequestsRequestSchema>, options?: CallOptions): AsyncIterable<PaymentRequest>;
  scheduledTransfers(
    request: MessageInitShape<typeof ListScheduledTransfersRequestSchema>,
    options?: CallOptions,
  ): AsyncIterable<ScheduledTransfer>;

  /** Closes the connection, where the transport holds one. */
  close(): void;
}

/** A client over a transport of your own. `@monay/wallet/node` and `@monay/wallet/web` have the usual ones. */
export function walletClient(
  transport: Transport,
  token: TokenSource,
  changes: Partial<Options> = {},
  close: () => void = () => {},
): WalletClient {
  const options = { ...DEFAULT_OPTIONS, ...changes };
  const caller = new Caller(transport, token, options);
  const rpcs = createClient(ConsumerWalletService, caller);
  return {
    ...rpcs,
    operations: createClient(OperationsService, caller),
    sandbox: createClient(SandboxService, caller),
    watchBalances: (handler, where = {}) => watchBalances(rpcs, handler, where, options),
    watchTransactions: (handler, where = {}) => watchTransactions(rpcs, handler, where, options),
    transactions: (request, how) => pages(rpcs.listTransactions, request, (page) => page.transactions, how),
    bankAccounts: (request, how) => pages(rpcs.listBankAccounts, request, (page) => page.bankAccounts, how),
    paymentRequests: (request, how) => pages(rpcs.listPaymentRequests, request, (page) => page.paymentRequests, how),
    scheduledTransfers: (request, how) =>
      pages(rpcs.listScheduledTransfers, request, (page) => page.scheduledTransfers, how),
    close,
  };
}

async function watchBalances(
  rpcs: Client<typeof ConsumerWalletService>,
  handler: Handler<Balance>,
  { consumerId = "", signal }: WatchOptions,
  options: Options,
): Promise<void> {
  const newest = new Newest();
  const open = (connection: AbortSignal) => rpcs.watchBalances({ consumerId }, { signal: connection });
  await watch(
    open,
    async (message) => {
      for (const balance of newest.among(message)) {
        await handler(balance);
      }
    },
    options,
    signal,
  );
}

async function watchTransactions(
  rpcs: Client<typeof ConsumerWalletService>,
  handler: Handler<WatchTransactionsResponse>,
  { consumerId = "", resumeCursor = "", saveCursor, signal }: WatchTransactionsOptions,
  options: Options,
): Promise<void> {
  let cursor = resumeCursor;
  const open = (connection: AbortSignal) =>
    rpcs.watchTransactions({ consumerId, resumeCursor: cursor }, { signal: connection });
  await watch(
    open,
    async (message) => {
      if (message.event.case !== "heartbeat") {
        await handler(message);
      }
      cursor = message.cursor;
      await saveCursor?.(cursor);
    },
    options,
    signal,
  );
}
