// Watched streams: kept alive over as many connections as it takes.
import { Code } from "@connectrpc/connect";
import { type WalletError, walletError } from "./errors.js";
import type { Balance, WatchBalancesResponse } from "./gen/monay/wallet/v1/money_pb.js";
import type { Options } from "./options.js";
import { backoffMs, sleep } from "./retries.js";

/** Opens the stream once more, behind what was dealt with. */
export type Open<Message> = (signal: AbortSignal) => AsyncIterable<Message>;

/** Deals with each message, until the signal is given. A stream that can never go on ends it with its error. */
export async function watch<Message>(
  open: Open<Message>,
  deal: (message: Message) => Promise<void>,
  options: Options,
  signal: AbortSignal | undefined,
): Promise<void> {
  let failures = 0;
  let expired = false;
  while (!signal?.aborted) {
    const connection = new Connection(open, options.silenceMs, signal);
    for await (const message of connection.messages()) {
      failures = 0;
      expired = false;
      await deal(message);
    }
    const error = connection.error;
    // A token that has expired twice in a row is not going to be replaced.
    if (error !== undefined && (error.tokenExpired ? expired : !error.passing)) {
      throw error;
    }
    expired = error?.tokenExpired ?? false;
    failures += 1;
    await sleep(backoffMs(failures, options.retries.firstPauseMs, options.retries.streamPauseMs), signal);
  }
}

/** One connection of a watched stream. Its messages end when it does; `error` then says whether something was wrong. */
class Connection<Message> {
  error: WalletError | undefined;
  readonly #open: Open<Message>;
  readonly #silenceMs: number;
  readonly #signal: AbortSignal | undefined;

  constructor(open: Open<Message>, silenceMs: number, signal: AbortSignal | undefined) {
    this.#open = open;
    this.#silenceMs = silenceMs;
    this.#signal = signal;
  }

  async *messages(): AsyncGenerator<Message> {
    const controller = new AbortController();
    const abort = (): void => controller.abort();
    this.#signal?.addEventListener("abort", abort);
    const stream = this.#open(controller.signal)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await this.#next(stream, controller);
        if (next === undefined) {
          return;
        }
        yield next;
      }
    } finally {
      this.#signal?.removeEventListener("abort", abort);
      abort();
    }
  }

  /** The next message; undefined at the end, whatever ended it. What the reader throws does not pass through here. */
  async #next(stream: AsyncIterator<Message>, controller: AbortController): Promise<Message | undefined> {
    const alarm = setTimeout(() => controller.abort(), this.#silenceMs);
    try {
      const result = await stream.next();
      return result.done ? undefined : result.value;
    } catch (thrown) {
      const error = walletError(thrown, "", controller.signal);
      // Cancelled is what we did ourselves: the reader had enough, or nothing was heard.
      this.error = error.code === Code.Canceled ? undefined : error;
      return undefined;
    } finally {
      clearTimeout(alarm);
    }
  }
}

/** The version of each asset that was handed over last, over all connections of one watch. */
export class Newest {
  readonly #versions = new Map<string, bigint>();

  /**
   * The balances of a message that say something new. A snapshot is the truth whatever was known, so in it any other
   * version is news, also a lower one: that is a wallet which was restored.
   */
  among({ event }: WatchBalancesResponse): Balance[] {
    if (event.case === "snapshot") {
      return event.value.balances.filter((balance) => this.#isNews(balance, this.#versions.get(balance.asset)));
    }
    const newer = event.case === "update" && event.value.version > (this.#versions.get(event.value.asset) ?? 0n);
    return newer && this.#isNews(event.value) ? [event.value] : [];
  }

  #isNews(balance: Balance, known?: bigint): boolean {
    this.#versions.set(balance.asset, balance.version);
    return known !== balance.version;
  }
}
