package com.monay.wallet.conformance;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import com.monay.wallet.Amounts;
import com.monay.wallet.WalletException;
import java.util.ArrayDeque;
import java.util.Queue;

/** What both drivers say: commands, answers and errors as JSON. */
final class Words {
  private static final Gson GSON = new Gson();

  private Words() {}

  static <B extends Message.Builder> B filled(B builder, JsonObject command) {
    try {
      JsonFormat.parser().merge(command.get("request").toString(), builder);
      return builder;
    } catch (InvalidProtocolBufferException wrong) {
      throw new IllegalArgumentException(wrong);
    }
  }

  static JsonElement json(Message message) {
    try {
      return JsonParser.parseString(JsonFormat.printer().omittingInsignificantWhitespace().print(message));
    } catch (InvalidProtocolBufferException wrong) {
      throw new IllegalArgumentException(wrong);
    }
  }

  static JsonObject answer(String key, JsonElement value) {
    JsonObject answer = new JsonObject();
    answer.add(key, value);
    return answer;
  }

  static JsonObject error(WalletException error) {
    JsonObject words = new JsonObject();
    words.addProperty("code", error.code().name());
    words.addProperty("reason", error.reasonName());
    words.add("facts", GSON.toJsonTree(error.facts()));
    words.addProperty("definite", error.definite());
    words.addProperty("requestId", error.requestId());
    JsonArray fields = new JsonArray();
    error.violations().forEach(violation -> fields.add(violation.field()));
    words.add("violations", fields);
    return words;
  }

  static JsonObject amount(JsonObject command) {
    JsonObject answer = new JsonObject();
    if (text(command, "do").equals("format")) {
      answer.addProperty("amount", Amounts.decimal(Long.parseLong(text(command, "micros"))));
      return answer;
    }
    try {
      String micros = Long.toString(Amounts.money(text(command, "asset"), text(command, "amount")).getMicros());
      answer.addProperty("micros", micros);
    } catch (IllegalArgumentException refused) {
      answer.addProperty("refused", true);
    }
    return answer;
  }

  static String text(JsonObject from, String key) {
    return from.has(key) && !from.get(key).isJsonNull() ? from.get(key).getAsString() : "";
  }

  /** The tokens one after the other, the last one for ever. */
  static Queue<String> tokens(JsonObject command) {
    Queue<String> tokens = new ArrayDeque<>();
    command.getAsJsonArray("tokens").forEach(token -> tokens.add(token.getAsString()));
    return tokens;
  }

  static synchronized String next(Queue<String> tokens) {
    return tokens.size() > 1 ? tokens.remove() : tokens.element();
  }

  /** All that a watch has seen, and where it stands. */
  static final class Seen {
    private final JsonArray events = new JsonArray();
    private final int failAt;
    private int calls;
    private String cursor;
    private JsonElement error = JsonNull.INSTANCE;

    Seen(JsonObject command) {
      cursor = text(command.getAsJsonObject("request"), "resumeCursor");
      failAt = command.has("failAt") ? command.get("failAt").getAsInt() : 0;
    }

    synchronized void handle(Message event) {
      calls++;
      if (calls == failAt) {
        throw new HandlerFailed();
      }
      events.add(json(event));
    }

    synchronized void save(String next) {
      cursor = next;
    }

    synchronized String cursor() {
      return cursor;
    }

    synchronized void end(WalletException thrown) {
      error = error(thrown);
    }

    synchronized JsonObject answer() {
      JsonObject answer = new JsonObject();
      answer.add("events", events.deepCopy());
      answer.addProperty("cursor", cursor);
      answer.add("error", error);
      return answer;
    }

    private static JsonObject error(WalletException thrown) {
      return Words.error(thrown);
    }
  }

  /** What a handler throws to see whether its event comes again. */
  static final class HandlerFailed extends RuntimeException {
    private static final long serialVersionUID = 1;
  }
}
