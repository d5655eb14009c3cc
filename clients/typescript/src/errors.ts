// The one error of the client: why a call was refused, and what is certain about it.
import { getOption } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, type ErrorInfo, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { ErrorReason, ErrorReasonSchema, error as declaredFacts } from "./gen/monay/wallet/v1/error_reason_pb.js";

const DOMAIN = "wallet.monay.com";

/** One field that breaks a rule of the contract. */
export interface Violation {
  readonly field: string;
  readonly description: string;
}

/**
 * A call was refused, or ended without an answer.
 *
 * `reason` is one of the contract's (UNSPECIFIED if the answer did not come from the wallet, or from a newer one;
 * `reasonName` then still says its word), and `facts` are what that reason promises to bring. `definite` says that
 * nothing was changed, for certain. Where it is false the call may have taken effect: send the same request again, with
 * its `requestId`, to learn it.
 */
export class WalletError extends Error {
  override readonly name = "WalletError";
  readonly code: Code;
  readonly reason: ErrorReason = ErrorReason.UNSPECIFIED;
  readonly reasonName: string = "";
  readonly facts: Readonly<Record<string, string>> = {};
  readonly violations: readonly Violation[];
  /** When the server has room again, in milliseconds; undefined where it does not say. */
  readonly retryAfterMs: number | undefined;
  readonly definite: boolean = false;
  readonly requestId: string;
  /** The server's own name for the call: what its log lines carry. */
  readonly callId: string;

  constructor(ended: ConnectError, requestId: string, code: Code) {
    super(ended.rawMessage, { cause: ended });
    this.code = code;
    this.requestId = requestId;
    this.callId = ended.metadata.get("request-id") ?? "";
    const [retry] = ended.findDetails(RetryInfoSchema);
    this.retryAfterMs = retry?.retryDelay === undefined ? undefined : durationMs(retry.retryDelay);
    this.violations = ended.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
    const info = ended.findDetails(ErrorInfoSchema).find((detail) => detail.domain === DOMAIN);
    if (info !== undefined) {
      this.reasonName = info.reason;
      this.facts = info.metadata;
      this.message = `${info.reason}: ${ended.rawMessage}`;
      [this.reason, this.definite] = declared(info);
    }
  }

  /** Whether the same call may be sent again as it is: UNAVAILABLE, and whatever says when. */
  get passing(): boolean {
    return this.code === Code.Unavailable || this.retryAfterMs !== undefined;
  }

  get tokenExpired(): boolean {
    return this.reason === ErrorReason.TOKEN_EXPIRED;
  }
}

/** Anything that a transport throws, as a WalletError. The signal is the one with which the caller may have given up. */
export function walletError(thrown: unknown, requestId: string, signal: AbortSignal | undefined): WalletError {
  if (thrown instanceof WalletError) {
    return thrown;
  }
  const ended = ConnectError.from(thrown);
  return new WalletError(ended, requestId, connectionBroke(ended, signal) ? Code.Unavailable : ended.code);
}

/**
 * Whether it was the connection, which gRPC calls UNAVAILABLE. Node and browsers report that in several codes with the
 * error beneath as the cause, and a session that ends under its streams as if we had cancelled them.
 */
function connectionBroke(ended: ConnectError, signal: AbortSignal | undefined): boolean {
  if (ended.code === Code.Canceled) {
    return !signal?.aborted;
  }
  return [Code.Aborted, Code.Internal, Code.Unknown].includes(ended.code) && ended.cause !== undefined;
}

function declared(info: ErrorInfo): [ErrorReason, boolean] {
  const value = ErrorReasonSchema.values.find((known) => known.name === `ERROR_REASON_${info.reason}`);
  if (value === undefined) {
    return [ErrorReason.UNSPECIFIED, false];
  }
  return [value.number, !getOption(value, declaredFacts).unknown];
}
