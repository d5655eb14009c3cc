package com.monay.wallet.conformance

import com.google.gson.JsonArray
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import com.google.protobuf.Message
import com.monay.wallet.Options
import com.monay.wallet.WalletException
import com.monay.wallet.kotlin.WalletClient
import com.monay.wallet.v1.BatchTransferRequest
import com.monay.wallet.v1.FaucetRequest
import com.monay.wallet.v1.GetBalanceRequest
import com.monay.wallet.v1.GetLimitsRequest
import com.monay.wallet.v1.ListTransactionsRequest
import com.monay.wallet.v1.OnboardRequest
import com.monay.wallet.v1.TransferRequest
import kotlin.system.exitProcess
import kotlin.time.Duration
import kotlin.time.Duration.Companion.seconds
import kotlin.time.toJavaDuration
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking

/** The conformance driver of the Kotlin client. tests/sdks/driver.py says what it is asked. */
object KotlinDriver {
    private val background = CoroutineScope(SupervisorJob() + Dispatchers.Default)
    private val clients = mutableMapOf<String, WalletClient>()
    private val watches = mutableMapOf<String, Pair<Words.Seen, Job>>()

    @JvmStatic
    fun main(arguments: Array<String>) {
        generateSequence(::readLine).forEach { line ->
            println(runBlocking { obey(JsonParser.parseString(line).asJsonObject) })
            System.out.flush()
        }
        exitProcess(0)
    }

    private suspend fun obey(command: JsonObject): JsonObject = when (Words.text(command, "do")) {
        "connect" -> connect(command)
        "call" -> refusable { Words.answer("answer", Words.json(answered(client(command), command, time(command)))) }
        "each" -> refusable { each(client(command), command) }
        "watch" -> watch(client(command), command)
        "seen" -> watches.getValue(Words.text(command, "watch")).first.answer()
        "unwatch" -> JsonObject().also { watches.getValue(Words.text(command, "watch")).second.cancel() }
        else -> Words.amount(command)
    }

    private fun client(command: JsonObject) = clients.getValue(Words.text(command, "client"))

    private fun connect(command: JsonObject): JsonObject {
        val tokens = Words.tokens(command)
        val options = Options.standard().withPlaintext().withTimeout(time(command)?.toJavaDuration())
        clients[Words.text(command, "client")] =
            WalletClient.connect(Words.text(command, "target"), options) { Words.next(tokens) }
        return JsonObject()
    }

    private suspend fun answered(wallet: WalletClient, command: JsonObject, time: Duration?): Message =
        when (Words.text(command, "rpc")) {
            "Onboard" -> wallet.onboard(Words.filled(OnboardRequest.newBuilder(), command).build(), time)
            "GetLimits" -> wallet.getLimits(Words.filled(GetLimitsRequest.newBuilder(), command).build(), time)
            "GetBalance" -> wallet.getBalance(Words.filled(GetBalanceRequest.newBuilder(), command).build(), time)
            "Transfer" -> wallet.transfer(Words.filled(TransferRequest.newBuilder(), command).build(), time)
            "BatchTransfer" -> wallet.batchTransfer(Words.filled(BatchTransferRequest.newBuilder(), command).build(), time)
            "ListTransactions" ->
                wallet.listTransactions(Words.filled(ListTransactionsRequest.newBuilder(), command).build(), time)
            "Faucet" -> wallet.sandbox.faucet(Words.filled(FaucetRequest.newBuilder(), command).build(), time)
            else -> throw IllegalArgumentException(command.toString())
        }

    private suspend fun each(wallet: WalletClient, command: JsonObject): JsonObject {
        val items = JsonArray()
        wallet.iterateTransactions(Words.filled(ListTransactionsRequest.newBuilder(), command).build())
            .collect { items.add(Words.json(it)) }
        return Words.answer("items", items)
    }

    private fun watch(wallet: WalletClient, command: JsonObject): JsonObject {
        val seen = Words.Seen(command)
        val consumer = Words.text(command.getAsJsonObject("request"), "consumerId")
        val job = background.launch {
            while (true) {
                try {
                    if (Words.text(command, "rpc") == "WatchBalances") {
                        wallet.watchBalances(consumer) { seen.handle(it) }
                    } else {
                        wallet.watchTransactions(consumer, seen.cursor(), { seen.save(it) }) { seen.handle(it) }
                    }
                } catch (again: Words.HandlerFailed) {
                    continue
                } catch (ended: WalletException) {
                    seen.end(ended)
                    return@launch
                }
            }
        }
        watches[Words.text(command, "watch")] = seen to job
        return JsonObject()
    }

    private suspend fun refusable(step: suspend () -> JsonObject): JsonObject = try {
        step()
    } catch (refused: WalletException) {
        Words.answer("error", Words.error(refused))
    }

    private fun time(command: JsonObject): Duration? =
        if (command.has("timeout")) command.get("timeout").asDouble.seconds else null
}
