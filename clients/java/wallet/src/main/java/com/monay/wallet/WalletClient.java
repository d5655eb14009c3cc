package com.monay.wallet;

import com.monay.wallet.internal.Caller;
import com.monay.wallet.internal.Channels;
import com.monay.wallet.internal.Newest;
import com.monay.wallet.v1.Balance;
import com.monay.wallet.v1.ConsumerWalletCalls;
import com.monay.wallet.v1.ConsumerWalletRpcs;
import com.monay.wallet.v1.OperationsCalls;
import com.monay.wallet.v1.SandboxCalls;
import com.monay.wallet.v1.WatchBalancesRequest;
import com.monay.wallet.v1.WatchTransactionsRequest;
import com.monay.wallet.v1.WatchTransactionsResponse;
import io.grpc.ManagedChannel;
import java.util.function.Consumer;

/**
 * Every rpc of ConsumerWalletService as a method; {@link #operations} and {@link #sandbox} have those of the other
 * services. Calls block their thread; any number of threads may share a client.
 *
 * <p>A call is given a request id before its first try; it has a deadline that all its tries share; what is UNAVAILABLE
 * or says when to come back is sent again, and a token that has expired is replaced once. Whatever else happens is
 * thrown as {@link WalletException}, which names the request id.
 */
public final class WalletClient extends ConsumerWalletCalls implements AutoCloseable {
  /** The version of this library. */
  public static final String VERSION = "0.2.0";

  private final ManagedChannel channel;
  private final OperationsCalls operations;
  private final SandboxCalls sandbox;

  private WalletClient(ManagedChannel channel, Caller caller) {
    super(caller);
    this.channel = channel;
    this.operations = new OperationsCalls(caller);
    this.sandbox = new SandboxCalls(caller);
  }

  /** Opens a client. Connecting itself happens with the first call. */
  public static WalletClient connect(String target, TokenSource token) {
    return connect(target, token, Options.standard());
  }

  public static WalletClient connect(String target, TokenSource token, Options options) {
    ManagedChannel channel = Channels.open(target, options, "java");
    return new WalletClient(channel, new Caller(channel, token, options));
  }

  public OperationsCalls operations() {
    return operations;
  }

  public SandboxCalls sandbox() {
    return sandbox;
  }

  /**
   * Hands over each balance of the wallet, and each newer one as it changes, until the thread is interrupted.
   *
   * <p>Connects anew whenever the stream ends or falls silent. What was handed over already is not repeated, and an
   * exception of the handler ends the watch.
   *
   * @param consumerId empty: the token's own
   */
  public void watchBalances(String consumerId, Consumer<Balance> handler) throws InterruptedException {
    Newest newest = new Newest();
    WatchBalancesRequest request = WatchBalancesRequest.newBuilder().setConsumerId(consumerId).build();
    caller.watch(ConsumerWalletRpcs.WATCH_BALANCES, () -> request, message -> newest.among(message).forEach(handler));
  }

  /**
   * Hands over each transaction and settlement update behind the cursor, until the thread is interrupted.
   *
   * <p>Connects anew whenever the stream ends or falls silent, at the cursor of the last message that was dealt with.
   * The cursor moves on, and is saved, only after the handler has returned, so a message whose handling failed comes
   * again. An exception of the handler ends the watch.
   *
   * @param consumerId empty: the token's own
   * @param resumeCursor of the last message that was dealt with; empty: from now on
   * @param saveCursor is given each cursor after its message was dealt with
   */
  public void watchTransactions(
      String consumerId, String resumeCursor, Consumer<WatchTransactionsResponse> handler, Consumer<String> saveCursor)
      throws InterruptedException {
    WatchTransactionsRequest.Builder position =
        WatchTransactionsRequest.newBuilder().setConsumerId(consumerId).setResumeCursor(resumeCursor);
    caller.watch(ConsumerWalletRpcs.WATCH_TRANSACTIONS, position::build, message -> {
      if (!message.hasHeartbeat()) {
        handler.accept(message);
      }
      position.setResumeCursor(message.getCursor());
      saveCursor.accept(message.getCursor());
    });
  }

  /** Closes the connection. Calls under way end with CANCELLED. */
  @Override
  public void close() {
    channel.shutdownNow();
  }
}
