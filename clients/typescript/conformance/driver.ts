// The conformance driver of the TypeScript client. tests/sdks/driver.py says what it is asked.
import { createInterface } from "node:readline";
import { type DescMessage, fromJson, type JsonValue, type MessageShape, toJson } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import {
  BalanceSchema,
  ConsumerWalletService,
  decimal,
  ListTransactionsRequestSchema,
  money,
  SandboxService,
  TransactionSchema,
  type WalletClient,
  WalletError,
  WatchTransactionsResponseSchema,
} from "../src/index.js";
import { connect } from "../src/node.js";

interface Command {
  do: string;
  client: string;
  target: string;
  tokens: string[];
  timeout?: number;
  rpc: string;
  request: { consumerId?: string; resumeCursor?: string };
  watch: string;
  failAt?: number;
  asset: string;
  amount: string;
  micros: string;
}

type Answer = Record<string, unknown>;

class HandlerFailed extends Error {}

/** A watched stream in the background, all it has seen, and where it stands. */
class Watch {
  readonly events: JsonValue[] = [];
  cursor: string;
  error: Answer | null = null;
  readonly stop = new AbortController();
  readonly #client: WalletClient;
  readonly #command: Command;
  #calls = 0;

  constructor(client: WalletClient, command: Command) {
    this.#client = client;
    this.#command = command;
    this.cursor = command.request.resumeCursor ?? "";
  }

  async run(): Promise<void> {
    try {
      await this.#once();
    } catch (thrown) {
      if (thrown instanceof HandlerFailed) {
        return this.run();
      }
      this.error = described(thrown);
    }
  }

  async #once(): Promise<void> {
    const where = { consumerId: this.#command.request.consumerId ?? "", signal: this.stop.signal };
    if (this.#command.rpc === "WatchBalances") {
      await this.#client.watchBalances((balance) => this.#handle(BalanceSchema, balance), where);
    } else {
      await this.#client.watchTransactions((event) => this.#handle(WatchTransactionsResponseSchema, event), {
        ...where,
        resumeCursor: this.cursor,
        saveCursor: (cursor) => {
          this.cursor = cursor;
        },
      });
    }
  }

  #handle<Schema extends DescMessage>(schema: Schema, event: MessageShape<Schema>): void {
    this.#calls += 1;
    if (this.#calls === this.#command.failAt) {
      throw new HandlerFailed();
    }
    this.events.push(toJson(schema, event));
  }
}

const clients = new Map<string, WalletClient>();
const watches = new Map<string, Watch>();

async function obey(command: Command): Promise<Answer> {
  switch (command.do) {
    case "connect": {
      const tokens = [...command.tokens];
      const token = (): string => (tokens.length > 1 ? tokens.shift() : tokens[0]) ?? "";
      const options = { tls: false, timeoutMs: (command.timeout ?? 10) * 1000 };
      clients.set(command.client, connect(command.target, token, options));
      return {};
    }
    case "call":
      return call(client(command), command);
    case "each":
      return each(client(command), command);
    case "watch": {
      const watch = new Watch(client(command), command);
      watches.set(command.watch, watch);
      void watch.run();
      return {};
    }
    case "seen": {
      const { events, cursor, error } = watches.get(command.watch) as Watch;
      return { events, cursor, error };
    }
    case "unwatch":
      watches.get(command.watch)?.stop.abort();
      return {};
    case "parse":
      try {
        return { micros: money(command.asset, command.amount).micros.toString() };
      } catch {
        return { refused: true };
      }
    case "format":
      return { amount: decimal(BigInt(command.micros)) };
    default:
      return { fault: `no command ${command.do}` };
  }
}

function client(command: Command): WalletClient {
  return clients.get(command.client) as WalletClient;
}

async function call(wallet: WalletClient, command: Command): Promise<Answer> {
  const inSandbox = command.rpc === "Faucet";
  const methods = (inSandbox ? SandboxService : ConsumerWalletService).methods;
  const method = methods.find((known) => known.name === command.rpc);
  if (method === undefined) {
    return { fault: `no rpc ${command.rpc}` };
  }
  const face = (inSandbox ? wallet.sandbox : wallet) as unknown as Record<string, (request: unknown, options: object) => Promise<never>>;
  const options = command.timeout === undefined ? {} : { timeoutMs: command.timeout * 1000 };
  try {
    const answer = await face[method.localName]?.(fromJson(method.input, command.request as JsonValue), options);
    return { answer: toJson(method.output, answer as never) };
  } catch (thrown) {
    return { error: described(thrown) };
  }
}

async function each(wallet: WalletClient, command: Command): Promise<Answer> {
  const items: JsonValue[] = [];
  try {
    for await (const item of wallet.transactions(fromJson(ListTransactionsRequestSchema, command.request as JsonValue))) {
      items.push(toJson(TransactionSchema, item));
    }
  } catch (thrown) {
    return { error: described(thrown) };
  }
  return { items };
}

/** An error in the words that all drivers use. */
function described(thrown: unknown): Answer {
  if (!(thrown instanceof WalletError)) {
    return { code: "UNTYPED", reason: String(thrown) };
  }
  return {
    code: Code[thrown.code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase(),
    reason: thrown.reasonName,
    facts: thrown.facts,
    definite: thrown.definite,
    requestId: thrown.requestId,
    violations: thrown.violations.map((violation) => violation.field),
    message: thrown.message,
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await obey(JSON.parse(line)))}\n`);
}
process.exit(0);
