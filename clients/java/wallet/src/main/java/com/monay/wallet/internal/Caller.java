package com.monay.wallet.internal;

import com.google.protobuf.Message;
import com.monay.wallet.Options;
import com.monay.wallet.RequestIds;
import com.monay.wallet.TokenSource;
import com.monay.wallet.WalletException;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.BlockingClientCall;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.Iterator;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import java.util.function.Supplier;

/** Carries the calls of one client, in the threads they are made in. */
public final class Caller {
  private static final Duration STREAM_TIMEOUT = Duration.ofMinutes(10);

  private final Channel channel;
  private final TokenSource token;
  private final Options options;

  public Caller(Channel channel, TokenSource token, Options options) {
    this.channel = channel;
    this.token = token;
    this.options = options;
  }

  /** One call, with as many tries as it takes and is worth. */
  public <Q extends Message, S extends Message> S unary(Rpc<Q, S> rpc, Q request, Duration timeout) {
    Q named = RequestIds.named(request);
    Tries tries = new Tries(options.retries(), timeout == null ? options.timeout() : timeout, rpc.repeatable());
    while (true) {
      String current = token.token();
      WalletException error;
      try {
        return ClientCalls.blockingUnaryCall(with(current), rpc.method(), Rpc.within(tries.remaining()), named);
      } catch (StatusRuntimeException ended) {
        error = WalletException.of(ended, RequestIds.of(named));
      }
      if (tries.replacesToken(error, current) && !token.token().equals(current)) {
        continue;
      }
      Optional<Duration> pause = tries.pauseAfter(error);
      if (pause.isEmpty()) {
        throw error;
      }
      sleepOr(pause.get(), error);
    }
  }

  /** A stream that has an end. It is not repeated: who reads it knows what was read. */
  public <Q extends Message, S extends Message> Iterator<S> stream(Rpc<Q, S> rpc, Q request, Duration timeout) {
    CallOptions within = Rpc.within(timeout == null ? STREAM_TIMEOUT : timeout);
    Iterator<S> messages = ClientCalls.blockingServerStreamingCall(with(token.token()), rpc.method(), within, request);
    return new Iterator<>() {
      @Override
      public boolean hasNext() {
        return typed(messages::hasNext);
      }

      @Override
      public S next() {
        return typed(messages::next);
      }
    };
  }

  /** Deals with the messages of a stream without end, over as many connections as it takes, until interrupted. */
  public <Q extends Message, S extends Message> void watch(Rpc<Q, S> rpc, Supplier<Q> request, Consumer<S> deal)
      throws InterruptedException {
    int failures = 0;
    boolean expired = false;
    while (true) {
      BlockingClientCall<Q, S> call = ClientCalls.blockingV2ServerStreamingCall(
          with(token.token()), rpc.method(), CallOptions.DEFAULT, request.get());
      WalletException error = null;
      try {
        for (S message = next(call); message != null; message = next(call)) {
          failures = 0;
          expired = false;
          deal.accept(message);
        }
      } catch (StatusException ended) {
        error = WalletException.of(ended, "");
      } finally {
        call.cancel("connecting anew, or done", null);
      }
      // A token that has expired twice in a row is not going to be replaced.
      if (error != null && (error.tokenExpired() ? expired : !error.passing())) {
        throw error;
      }
      expired = error != null && error.tokenExpired();
      failures++;
      TimeUnit.NANOSECONDS.sleep(
          Tries.backoff(failures, options.retries().firstPause(), options.retries().streamPause()).toNanos());
    }
  }

  /** The next message; null at the end, and where nothing is heard for too long. */
  private <S> S next(BlockingClientCall<?, S> call) throws InterruptedException, StatusException {
    try {
      return call.read(options.silence().toMillis(), TimeUnit.MILLISECONDS);
    } catch (TimeoutException silent) {
      return null;
    }
  }

  private Channel with(String current) {
    return ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(Rpc.headers(current)));
  }

  private static <T> T typed(Supplier<T> step) {
    try {
      return step.get();
    } catch (StatusRuntimeException ended) {
      throw WalletException.of(ended, "");
    }
  }

  private static void sleepOr(Duration pause, WalletException error) {
    try {
      TimeUnit.NANOSECONDS.sleep(pause.toNanos());
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      error.addSuppressed(interrupted);
      throw error;
    }
  }
}
