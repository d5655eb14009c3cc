import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import {
  ConsumerWalletService,
  SubmitTransfersRequestSchema,
  TransferRequestSchema,
  walletClient,
  WalletError,
} from "../src/index.js";
import { backoffMs } from "../src/retries.js";

const quick = { retries: { attempts: 3, firstPauseMs: 1, longestPauseMs: 2, streamPauseMs: 2 } };

test("the request id is made before the first try and the same in every try", async () => {
  const seen: string[] = [];
  const transport = createRouterTransport(({ service }) => {
    service(ConsumerWalletService, {
      transfer(request) {
        seen.push(request.requestId);
        if (seen.length < 3) {
          throw new ConnectError("away", Code.Unavailable);
        }
        return { replayed: true };
      },
    });
  });
  const request = create(TransferRequestSchema);
  const answer = await walletClient(transport, "t", quick).transfer(request);
  assert.equal(answer.replayed, true);
  assert.notEqual(request.requestId, "");
  assert.deepEqual(seen, [request.requestId, request.requestId, request.requestId]);
});

test("a plain object is named, too, and an id of the caller's own is kept", async () => {
  const transport = createRouterTransport(({ service }) => {
    service(ConsumerWalletService, { transfer: () => ({}), submitTransfers: () => ({}) });
  });
  const wallet = walletClient(transport, "t", quick);
  const plain: { requestId?: string; memo: string } = { memo: "Lunch" };
  await wallet.transfer(plain);
  assert.ok(plain.requestId);
  const many = create(SubmitTransfersRequestSchema, { transfers: [{}, { requestId: "mine" }] });
  await wallet.submitTransfers(many);
  assert.notEqual(many.transfers[0]?.requestId, "");
  assert.equal(many.transfers[1]?.requestId, "mine");
});

test("what the wallet decided is thrown at once", async () => {
  let calls = 0;
  const transport = createRouterTransport(({ service }) => {
    service(ConsumerWalletService, {
      transfer() {
        calls += 1;
        throw new ConnectError("no", Code.FailedPrecondition);
      },
    });
  });
  await assert.rejects(
    walletClient(transport, "t", quick).transfer({}),
    (error: unknown) => error instanceof WalletError && error.code === Code.FailedPrecondition && error.requestId !== "",
  );
  assert.equal(calls, 1);
});

test("pauses double up to a bound", () => {
  for (const [failures, longest] of [[1, 200], [2, 400], [3, 800], [9, 5000]] as const) {
    const pause = backoffMs(failures, 200, 5000);
    assert.ok(pause >= longest / 2 && pause <= longest);
  }
});
