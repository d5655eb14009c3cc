package com.monay.wallet.kotlin

import com.monay.wallet.Options
import com.monay.wallet.internal.Channels
import com.monay.wallet.internal.Newest
import com.monay.wallet.v1.Balance
import com.monay.wallet.v1.ConsumerWalletRpcs
import com.monay.wallet.v1.WatchBalancesRequest
import com.monay.wallet.v1.WatchTransactionsRequest
import com.monay.wallet.v1.WatchTransactionsResponse
import io.grpc.ManagedChannel

/**
 * Every rpc of ConsumerWalletService as a suspending function; [operations] and [sandbox] have those of the other
 * services.
 *
 * A call is given a request id before its first try; it has a deadline that all its tries share; what is UNAVAILABLE or
 * says when to come back is sent again, and a token that has expired is replaced once. Whatever else happens is thrown
 * as [com.monay.wallet.WalletException], which names the request id.
 */
public class WalletClient private constructor(
    private val channel: ManagedChannel,
    caller: Caller,
) : ConsumerWalletCalls(caller), AutoCloseable {
    public val operations: OperationsCalls = OperationsCalls(caller)
    public val sandbox: SandboxCalls = SandboxCalls(caller)

    /**
     * Hands over each balance of the wallet, and each newer one as it changes, until cancelled.
     *
     * Connects anew whenever the stream ends or falls silent. What was handed over already is not repeated, and an
     * exception of the handler ends the watch.
     */
    public suspend fun watchBalances(consumerId: String = "", handler: suspend (Balance) -> Unit): Nothing {
        val newest = Newest()
        val request = WatchBalancesRequest.newBuilder().setConsumerId(consumerId).build()
        caller.watch(ConsumerWalletRpcs.WATCH_BALANCES, { request }) { message ->
            newest.among(message).forEach { handler(it) }
        }
    }

    /**
     * Hands over each transaction and settlement update behind the cursor, until cancelled.
     *
     * Connects anew whenever the stream ends or falls silent, at the cursor of the last message that was dealt with.
     * The cursor moves on, and is given to [saveCursor], only after the handler has returned, so a message whose
     * handling failed comes again. An exception of the handler ends the watch.
     */
    public suspend fun watchTransactions(
        consumerId: String = "",
        resumeCursor: String = "",
        saveCursor: suspend (String) -> Unit = {},
        handler: suspend (WatchTransactionsResponse) -> Unit,
    ): Nothing {
        val position = WatchTransactionsRequest.newBuilder().setConsumerId(consumerId).setResumeCursor(resumeCursor)
        caller.watch(ConsumerWalletRpcs.WATCH_TRANSACTIONS, { position.build() }) { message ->
            if (!message.hasHeartbeat()) handler(message)
            position.resumeCursor = message.cursor
            saveCursor(message.cursor)
        }
    }

    /** Closes the connection. Calls under way end with CANCELLED. */
    override fun close() {
        channel.shutdownNow()
    }

    public companion object {
        /**
         * Opens a client. [token] is asked before every try for a token that is valid now. Connecting itself happens
         * with the first call.
         */
        public fun connect(target: String, options: Options = Options.standard(), token: suspend () -> String): WalletClient {
            val channel = Channels.open(target, options, "kotlin")
            return WalletClient(channel, Caller(channel, token, options))
        }
    }
}
