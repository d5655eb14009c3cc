package com.monay.wallet.internal;

import com.monay.wallet.Options;
import com.monay.wallet.WalletClient;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import java.util.concurrent.TimeUnit;

/** How a channel is opened: the same for Java and Kotlin. */
public final class Channels {
  private Channels() {}

  /**
   * A dead connection is noticed within 40 seconds, by pings that the server allows. The client itself decides what is
   * sent again, so gRPC does not.
   */
  public static ManagedChannel open(String target, Options options, String language) {
    return Grpc.newChannelBuilder(target, options.credentials())
        .keepAliveTime(30, TimeUnit.SECONDS)
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .disableRetry()
        .userAgent("monay-wallet-" + language + "/" + WalletClient.VERSION)
        .build();
  }
}
