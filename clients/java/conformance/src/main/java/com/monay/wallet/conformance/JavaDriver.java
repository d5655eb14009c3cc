package com.monay.wallet.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Message;
import com.monay.wallet.Options;
import com.monay.wallet.WalletClient;
import com.monay.wallet.WalletException;
import com.monay.wallet.v1.BatchTransferRequest;
import com.monay.wallet.v1.FaucetRequest;
import com.monay.wallet.v1.GetBalanceRequest;
import com.monay.wallet.v1.GetLimitsRequest;
import com.monay.wallet.v1.ListTransactionsRequest;
import com.monay.wallet.v1.OnboardRequest;
import com.monay.wallet.v1.TransferRequest;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Queue;

/** The conformance driver of the Java client. tests/sdks/driver.py says what it is asked. */
public final class JavaDriver {
  private final Map<String, WalletClient> clients = new HashMap<>();
  private final Map<String, Words.Seen> watches = new HashMap<>();
  private final Map<String, Thread> threads = new HashMap<>();

  public static void main(String[] arguments) throws IOException {
    JavaDriver driver = new JavaDriver();
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      System.out.println(driver.obey(JsonParser.parseString(line).getAsJsonObject()));
      System.out.flush();
    }
    System.exit(0);
  }

  private JsonObject obey(JsonObject command) {
    WalletClient client = clients.get(Words.text(command, "client"));
    String watch = Words.text(command, "watch");
    return switch (Words.text(command, "do")) {
      case "connect" -> connect(command);
      case "call" -> call(client, command);
      case "each" -> each(client, command);
      case "watch" -> watch(client, command);
      case "seen" -> watches.get(watch).answer();
      case "unwatch" -> {
        threads.get(watch).interrupt();
        yield new JsonObject();
      }
      default -> Words.amount(command);
    };
  }

  private JsonObject connect(JsonObject command) {
    Queue<String> tokens = Words.tokens(command);
    Options options = Options.standard().withPlaintext().withTimeout(seconds(command));
    clients.put(
        Words.text(command, "client"),
        WalletClient.connect(Words.text(command, "target"), () -> Words.next(tokens), options));
    return new JsonObject();
  }

  private static JsonObject call(WalletClient client, JsonObject command) {
    try {
      return Words.answer("answer", Words.json(answered(client, command, seconds(command))));
    } catch (WalletException refused) {
      return Words.answer("error", Words.error(refused));
    }
  }

  private static Message answered(WalletClient client, JsonObject command, Duration time) {
    return switch (Words.text(command, "rpc")) {
      case "Onboard" -> client.onboard(Words.filled(OnboardRequest.newBuilder(), command).build(), time);
      case "GetLimits" -> client.getLimits(Words.filled(GetLimitsRequest.newBuilder(), command).build(), time);
      case "GetBalance" -> client.getBalance(Words.filled(GetBalanceRequest.newBuilder(), command).build(), time);
      case "Transfer" -> client.transfer(Words.filled(TransferRequest.newBuilder(), command).build(), time);
      case "BatchTransfer" ->
          client.batchTransfer(Words.filled(BatchTransferRequest.newBuilder(), command).build(), time);
      case "ListTransactions" ->
          client.listTransactions(Words.filled(ListTransactionsRequest.newBuilder(), command).build(), time);
      case "Faucet" -> client.sandbox().faucet(Words.filled(FaucetRequest.newBuilder(), command).build(), time);
      default -> throw new IllegalArgumentException(command.toString());
    };
  }

  private static JsonObject each(WalletClient client, JsonObject command) {
    JsonArray items = new JsonArray();
    try {
      client.iterateTransactions(Words.filled(ListTransactionsRequest.newBuilder(), command).build())
          .forEach(transaction -> items.add(Words.json(transaction)));
    } catch (WalletException refused) {
      return Words.answer("error", Words.error(refused));
    }
    return Words.answer("items", items);
  }

  private JsonObject watch(WalletClient client, JsonObject command) {
    Words.Seen seen = new Words.Seen(command);
    String consumer = Words.text(command.getAsJsonObject("request"), "consumerId");
    boolean balances = Words.text(command, "rpc").equals("WatchBalances");
    Thread thread = new Thread(() -> {
      while (true) {
        try {
          if (balances) {
            client.watchBalances(consumer, seen::handle);
          } else {
            client.watchTransactions(consumer, seen.cursor(), seen::handle, seen::save);
          }
        } catch (Words.HandlerFailed again) {
          continue;
        } catch (WalletException ended) {
          seen.end(ended);
          return;
        } catch (InterruptedException told) {
          return;
        }
      }
    });
    thread.setDaemon(true);
    thread.start();
    watches.put(Words.text(command, "watch"), seen);
    threads.put(Words.text(command, "watch"), thread);
    return new JsonObject();
  }

  private static Duration seconds(JsonObject command) {
    return command.has("timeout") ? Duration.ofMillis((long) (command.get("timeout").getAsDouble() * 1000)) : null;
  }
}
