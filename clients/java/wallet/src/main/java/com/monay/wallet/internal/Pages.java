package com.monay.wallet.internal;

import java.util.ArrayDeque;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Queue;
import java.util.function.Function;

/** Lists that come in pages, read as if they did not. */
public final class Pages {
  private Pages() {}

  /** All pages from that token on: each is fetched when the one before it has been read. */
  public static <P, T> Iterable<T> of(
      Function<String, P> fetch, String first, Function<P, List<T>> items, Function<P, String> next) {
    return () -> new Iterator<>() {
      private final Queue<T> read = new ArrayDeque<>();
      private String token = first;
      private boolean over;

      @Override
      public boolean hasNext() {
        while (read.isEmpty() && !over) {
          P page = fetch.apply(token);
          read.addAll(items.apply(page));
          token = next.apply(page);
          over = token.isEmpty();
        }
        return !read.isEmpty();
      }

      @Override
      public T next() {
        if (!hasNext()) {
          throw new NoSuchElementException();
        }
        return read.remove();
      }
    };
  }
}
