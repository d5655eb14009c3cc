// When a call may be sent again, and after which pause.
import type { WalletError } from "./errors.js";
import type { RetryPolicy } from "./options.js";

/** The tries of one call: how long the next may take, and whether there is a next one. */
export class Tries {
  readonly #policy: RetryPolicy;
  readonly #repeatable: boolean;
  readonly #deadline: number;
  #made = 0;

  constructor(policy: RetryPolicy, timeoutMs: number, repeatable: boolean) {
    this.#policy = policy;
    this.#repeatable = repeatable;
    this.#deadline = performance.now() + timeoutMs;
  }

  /** What is left of the call's time; all its tries share it. */
  remainingMs(): number {
    return Math.max(Math.ceil(this.#deadline - performance.now()), 1);
  }

  /** How long to wait before the next try; undefined where the error is the answer. */
  pauseAfter(error: WalletError): number | undefined {
    this.#made += 1;
    if (!this.#repeatable || !error.passing || this.#made >= this.#policy.attempts) {
      return undefined;
    }
    // The server may know when there is room; a little chance on top keeps the crowd apart.
    const pause =
      error.retryAfterMs === undefined
        ? backoffMs(this.#made, this.#policy.firstPauseMs, this.#policy.longestPauseMs)
        : error.retryAfterMs * (1 + Math.random() / 4);
    return pause < this.remainingMs() ? pause : undefined;
  }
}

/** The pause after so many failures in a row: between half and all of a doubling span. */
export function backoffMs(failures: number, firstMs: number, longestMs: number): number {
  const span = Math.min(firstMs * 2 ** Math.min(failures - 1, 20), longestMs);
  return span * (0.5 + Math.random() / 2);
}

/** Resolves after the pause, or at once when the signal is given. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) {
    return;
  }
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
  });
}
