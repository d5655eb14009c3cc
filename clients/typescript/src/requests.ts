// Request ids: a caller's name for one intent.
import type { DescMessage, DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";

/** A name for one intent. Store it before the first try if the intent has to survive this process. */
export function newRequestId(): string {
  return globalThis.crypto.randomUUID();
}

type Fields = { requestId?: string; transfers?: Fields[] };

/**
 * Gives the request its request id, unless it has one, and every transfer within it, too; answers the id.
 *
 * It is written into the caller's own object, before anything is sent: whoever sends the same object again, after
 * whatever error, means the same intent and cannot pay twice.
 */
export function nameIntent(schema: DescMessage, request: object): string {
  const fields: Fields = request;
  const transfers = schema.field["transfers"]?.message;
  if (transfers !== undefined && transfers.field["requestId"] !== undefined) {
    fields.transfers?.forEach((transfer) => nameIntent(transfers, transfer));
  }
  if (!hasRequestId(schema)) {
    return "";
  }
  fields.requestId ||= newRequestId();
  return fields.requestId;
}

/** Whether the contract lets the call be sent a second time: the rpc declares it, or the request has a name. */
export function repeatable(method: DescMethod): boolean {
  return method.idempotency !== Idempotency.IDEMPOTENCY_UNKNOWN || hasRequestId(method.input);
}

function hasRequestId(schema: DescMessage): boolean {
  return schema.field["requestId"] !== undefined;
}
