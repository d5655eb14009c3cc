package com.monay.wallet.internal;

import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.protobuf.ProtoUtils;
import java.time.Duration;
import java.util.concurrent.TimeUnit;

/** One rpc of the contract. Only what is repeatable is ever sent a second time. */
public record Rpc<Q extends Message, S extends Message>(MethodDescriptor<Q, S> method, boolean repeatable) {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  public static <Q extends Message, S extends Message> Rpc<Q, S> unary(
      String name, Q request, S response, boolean repeatable) {
    return of(MethodType.UNARY, name, request, response, repeatable);
  }

  public static <Q extends Message, S extends Message> Rpc<Q, S> streaming(
      String name, Q request, S response, boolean repeatable) {
    return of(MethodType.SERVER_STREAMING, name, request, response, repeatable);
  }

  private static <Q extends Message, S extends Message> Rpc<Q, S> of(
      MethodType type, String name, Q request, S response, boolean repeatable) {
    MethodDescriptor<Q, S> method = MethodDescriptor.<Q, S>newBuilder()
        .setType(type)
        .setFullMethodName(name)
        .setRequestMarshaller(ProtoUtils.marshaller(request))
        .setResponseMarshaller(ProtoUtils.marshaller(response))
        .build();
    return new Rpc<>(method, repeatable);
  }

  /** The headers of a call. Without a token there are none: GetHealth needs none. */
  public static Metadata headers(String token) {
    Metadata headers = new Metadata();
    if (!token.isEmpty()) {
      headers.put(AUTHORIZATION, "Bearer " + token);
    }
    return headers;
  }

  public static CallOptions within(Duration time) {
    return CallOptions.DEFAULT.withDeadlineAfter(time.toNanos(), TimeUnit.NANOSECONDS);
  }
}
