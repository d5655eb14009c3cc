package com.monay.wallet.internal;

import com.monay.wallet.RetryPolicy;
import com.monay.wallet.WalletException;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;

/** The tries of one call: how long the next may take, whether there is a next one, and with which token. */
public final class Tries {
  private final RetryPolicy policy;
  private final boolean repeatable;
  private final long deadline;
  private int made;
  private String expired = "";

  public Tries(RetryPolicy policy, Duration timeout, boolean repeatable) {
    this.policy = policy;
    this.repeatable = repeatable;
    this.deadline = System.nanoTime() + timeout.toNanos();
  }

  /** What is left of the call's time; all its tries share it. */
  public Duration remaining() {
    return Duration.ofNanos(Math.max(deadline - System.nanoTime(), 1_000_000));
  }

  /** Whether a token that has expired is to be replaced: once in a call. */
  public boolean replacesToken(WalletException error, String token) {
    if (!error.tokenExpired() || !expired.isEmpty()) {
      return false;
    }
    expired = token;
    return true;
  }

  /** How long to wait before the next try; empty where the error is the answer. */
  public Optional<Duration> pauseAfter(WalletException error) {
    made++;
    if (!repeatable || !error.passing() || made >= policy.attempts()) {
      return Optional.empty();
    }
    // The server may know when there is room; a little chance on top keeps the crowd apart.
    Duration pause = error.retryAfter()
        .map(after -> after.plusNanos(chance(after.toNanos() / 4)))
        .orElseGet(() -> backoff(made, policy.firstPause(), policy.longestPause()));
    return Optional.of(pause).filter(chosen -> chosen.compareTo(remaining()) < 0);
  }

  /** The pause after so many failures in a row: between half and all of a doubling span. */
  public static Duration backoff(int failures, Duration first, Duration longest) {
    Duration doubled = first.multipliedBy(1L << Math.min(failures - 1, 20));
    long span = (doubled.compareTo(longest) < 0 ? doubled : longest).toNanos();
    return Duration.ofNanos(span / 2 + chance(span / 2));
  }

  private static long chance(long bound) {
    return ThreadLocalRandom.current().nextLong(bound + 1);
  }
}
