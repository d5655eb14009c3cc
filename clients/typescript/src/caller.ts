// Carries the calls of one client: a transport around a transport, for the typed client above it.
import type { DescMessage, DescMethodStreaming, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { ContextValues, StreamResponse, Transport, UnaryResponse } from "@connectrpc/connect";
import { type WalletError, walletError } from "./errors.js";
import { currentToken, type Options, type TokenSource } from "./options.js";
import { nameIntent, repeatable } from "./requests.js";
import { sleep, Tries } from "./retries.js";

export class Caller implements Transport {
  readonly #inner: Transport;
  readonly #token: TokenSource;
  readonly #options: Options;

  constructor(inner: Transport, token: TokenSource, options: Options) {
    this.#inner = inner;
    this.#token = token;
    this.#options = options;
  }

  /** One call, with as many tries as it takes and is worth. */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
    contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    const requestId = nameIntent(method.input, input);
    const tries = new Tries(this.#options.retries, timeoutMs ?? this.#options.timeoutMs, repeatable(method));
    let expired = "";
    for (;;) {
      const token = await currentToken(this.#token);
      let error: WalletError;
      try {
        const headers = withToken(header, token);
        return await this.#inner.unary(method, signal, tries.remainingMs(), headers, input, contextValues);
      } catch (thrown) {
        error = walletError(thrown, requestId, signal);
      }
      if (error.tokenExpired && expired === "") {
        expired = token;
        if ((await currentToken(this.#token)) !== expired) {
          continue;
        }
      }
      const pause = signal?.aborted ? undefined : tries.pauseAfter(error);
      if (pause === undefined) {
        throw error;
      }
      await sleep(pause, signal);
    }
  }

  /** Opens a stream. It is not repeated: who reads it knows what was read. */
  async stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<I>>,
    contextValues?: ContextValues,
  ): Promise<StreamResponse<I, O>> {
    const headers = withToken(header, await currentToken(this.#token));
    try {
      const opened = await this.#inner.stream(method, signal, timeoutMs, headers, input, contextValues);
      return { ...opened, message: typed(opened.message, signal) };
    } catch (thrown) {
      throw walletError(thrown, "", signal);
    }
  }
}

/** The messages of a stream, whose errors are WalletErrors. */
async function* typed<O extends DescMessage>(
  messages: AsyncIterable<MessageShape<O>>,
  signal: AbortSignal | undefined,
): AsyncIterable<MessageShape<O>> {
  try {
    yield* messages;
  } catch (thrown) {
    throw walletError(thrown, "", signal);
  }
}

/** Without a token there is none to add: GetHealth needs none. */
function withToken(header: HeadersInit | undefined, token: string): Headers {
  const headers = new Headers(header);
  if (token !== "") {
    headers.set("authorization", `Bearer ${token}`);
  }
  return headers;
}
