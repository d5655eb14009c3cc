package com.monay.wallet;

/** Is asked before every try for a token that is valid now. Many threads may ask at once. */
@FunctionalInterface
public interface TokenSource {
  String token();

  /** The source of a token that never changes. */
  static TokenSource of(String token) {
    return () -> token;
  }
}
