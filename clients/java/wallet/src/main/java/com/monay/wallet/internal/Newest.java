package com.monay.wallet.internal;

import com.monay.wallet.v1.Balance;
import com.monay.wallet.v1.WatchBalancesResponse;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The version of each asset that was handed over last, over all connections of one watch. */
public final class Newest {
  private final Map<String, Long> versions = new HashMap<>();

  /**
   * The balances of a message that say something new. A snapshot is the truth whatever was known, so in it any other
   * version is news, also a lower one: that is a wallet which was restored.
   */
  public List<Balance> among(WatchBalancesResponse message) {
    List<Balance> news = switch (message.getEventCase()) {
      case SNAPSHOT -> message.getSnapshot().getBalancesList().stream()
          .filter(balance -> !Long.valueOf(balance.getVersion()).equals(versions.get(balance.getAsset())))
          .toList();
      case UPDATE -> message.getUpdate().getVersion() > versions.getOrDefault(message.getUpdate().getAsset(), 0L)
          ? List.of(message.getUpdate())
          : List.of();
      default -> List.of();
    };
    news.forEach(balance -> versions.put(balance.getAsset(), balance.getVersion()));
    return news;
  }
}
