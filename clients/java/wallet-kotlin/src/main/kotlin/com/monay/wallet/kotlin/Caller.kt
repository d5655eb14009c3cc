package com.monay.wallet.kotlin

import com.google.protobuf.Message
import com.monay.wallet.Options
import com.monay.wallet.RequestIds
import com.monay.wallet.WalletException
import com.monay.wallet.internal.Rpc
import com.monay.wallet.internal.Tries
import io.grpc.CallOptions
import io.grpc.Channel
import io.grpc.StatusException
import io.grpc.kotlin.ClientCalls
import kotlin.time.Duration
import kotlin.time.Duration.Companion.minutes
import kotlin.time.toJavaDuration
import kotlin.time.toKotlinDuration
import kotlinx.coroutines.channels.ReceiveChannel
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.channels.produce
import kotlinx.coroutines.channels.Channel.Factory.RENDEZVOUS
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.catch
import kotlinx.coroutines.flow.emitAll
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.withTimeoutOrNull

private val STREAM_TIMEOUT = 10.minutes

/** Carries the calls of one client, in the coroutines they are made in. */
public class Caller internal constructor(
    private val channel: Channel,
    private val token: suspend () -> String,
    private val options: Options,
) {
    /** One call, with as many tries as it takes and is worth. */
    internal suspend fun <Q : Message, S : Message> unary(rpc: Rpc<Q, S>, request: Q, timeout: Duration?): S {
        val named = RequestIds.named(request)
        val tries = Tries(options.retries, timeout?.toJavaDuration() ?: options.timeout, rpc.repeatable)
        while (true) {
            val current = token()
            val error = try {
                val within = Rpc.within(tries.remaining())
                return ClientCalls.unaryRpc(channel, rpc.method, named, within, Rpc.headers(current))
            } catch (ended: StatusException) {
                WalletException.of(ended, RequestIds.of(named))
            }
            if (tries.replacesToken(error, current) && token() != current) continue
            val pause = tries.pauseAfter(error).orElseThrow { error }
            delay(pause.toKotlinDuration())
        }
    }

    /** A stream that has an end. It is not repeated: who reads it knows what was read. */
    internal fun <Q : Message, S : Message> stream(rpc: Rpc<Q, S>, request: Q, timeout: Duration?): Flow<S> = flow {
        val within = Rpc.within((timeout ?: STREAM_TIMEOUT).toJavaDuration())
        emitAll(ClientCalls.serverStreamingRpc(channel, rpc.method, request, within, Rpc.headers(token())))
    }.catch { thrown -> throw if (thrown is StatusException) WalletException.of(thrown, "") else thrown }

    /** Deals with the messages of a stream without end, over as many connections as it takes, until cancelled. */
    internal suspend fun <Q : Message, S : Message> watch(
        rpc: Rpc<Q, S>,
        request: () -> Q,
        deal: suspend (S) -> Unit,
    ): Nothing {
        var failures = 0
        var expired = false
        while (true) {
            val opened = ClientCalls.serverStreamingRpc(channel, rpc.method, request(), CallOptions.DEFAULT, Rpc.headers(token()))
            val error = once(opened) { message ->
                failures = 0
                expired = false
                deal(message)
            }
            // A token that has expired twice in a row is not going to be replaced.
            if (error != null && (if (error.tokenExpired()) expired else !error.passing())) throw error
            expired = error?.tokenExpired() ?: false
            failures++
            delay(Tries.backoff(failures, options.retries.firstPause, options.retries.streamPause).toKotlinDuration())
        }
    }

    /** Deals with the messages of one connection, for as long as the server is heard; says what was wrong at its end. */
    private suspend fun <S : Message> once(opened: Flow<S>, deal: suspend (S) -> Unit): WalletException? = coroutineScope {
        var error: WalletException? = null
        val messages = produce(capacity = RENDEZVOUS) {
            try {
                opened.collect { send(it) }
            } catch (ended: StatusException) {
                error = WalletException.of(ended, "")
            }
        }
        while (true) {
            deal(next(messages) ?: break)
        }
        messages.cancel()
        error
    }

    /** The next message; null at the end, and where nothing is heard for too long. */
    private suspend fun <S : Any> next(messages: ReceiveChannel<S>): S? =
        withTimeoutOrNull(options.silence.toKotlinDuration()) { messages.receiveCatching().getOrNull() }
}
