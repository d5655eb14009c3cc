package com.monay.wallet;

import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.time.Duration;

/**
 * What a client lets its caller choose.
 *
 * @param credentials TLS with the system's roots, unless it is something else
 * @param timeout for one call with all its tries, where the call names none
 * @param silence after so long without any message, not even a heartbeat, a watched stream connects anew
 */
public record Options(ChannelCredentials credentials, Duration timeout, RetryPolicy retries, Duration silence) {
  public static Options standard() {
    return new Options(TlsChannelCredentials.create(), Duration.ofSeconds(10), RetryPolicy.standard(), Duration.ofSeconds(30));
  }

  public Options withCredentials(ChannelCredentials credentials) {
    return new Options(credentials, timeout, retries, silence);
  }

  /** Speaks without TLS, for a wallet on this machine. */
  public Options withPlaintext() {
    return withCredentials(InsecureChannelCredentials.create());
  }

  public Options withTimeout(Duration timeout) {
    return new Options(credentials, timeout, retries, silence);
  }

  public Options withRetries(RetryPolicy retries) {
    return new Options(credentials, timeout, retries, silence);
  }

  public Options withSilence(Duration silence) {
    return new Options(credentials, timeout, retries, silence);
  }
}
