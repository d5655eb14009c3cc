// What a client lets its caller choose.

/** Asked before every try for a token that is valid now. */
export type TokenSource = string | (() => string | Promise<string>);

/** How patient a client is. Pauses double and are drawn at random, so that many clients do not return at once. */
export interface RetryPolicy {
  /** Of one call, the first included. A watched stream connects anew for as long as it is watched. */
  readonly attempts: number;
  readonly firstPauseMs: number;
  readonly longestPauseMs: number;
  /** The longest pause of a watched stream whose server stays away. */
  readonly streamPauseMs: number;
}

export interface Options {
  /** For one call with all its tries, where the call names none. */
  readonly timeoutMs: number;
  readonly retries: RetryPolicy;
  /** After so long without any message, not even a heartbeat, a watched stream connects anew. */
  readonly silenceMs: number;
}

export const DEFAULT_OPTIONS: Options = {
  timeoutMs: 10_000,
  retries: { attempts: 5, firstPauseMs: 200, longestPauseMs: 5_000, streamPauseMs: 30_000 },
  silenceMs: 30_000,
};

export async function currentToken(source: TokenSource): Promise<string> {
  return typeof source === "string" ? source : await source();
}
