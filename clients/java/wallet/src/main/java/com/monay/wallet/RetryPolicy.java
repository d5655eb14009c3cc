package com.monay.wallet;

import java.time.Duration;

/**
 * How patient a client is. Pauses double and are drawn at random, so that many clients do not return at once.
 *
 * @param attempts of one call, the first included; a watched stream connects anew for as long as it is watched
 * @param streamPause the longest pause of a watched stream whose server stays away
 */
public record RetryPolicy(int attempts, Duration firstPause, Duration longestPause, Duration streamPause) {
  /** Five tries within about three seconds. */
  public static RetryPolicy standard() {
    return new RetryPolicy(5, Duration.ofMillis(200), Duration.ofSeconds(5), Duration.ofSeconds(30));
  }
}
