package com.monay.wallet;

import com.monay.wallet.v1.Money;
import java.math.BigDecimal;
import java.util.regex.Pattern;

/** Amounts as people write them, and as the wallet counts them: without a floating point number in between. */
public final class Amounts {
  private static final int DIGITS = 6;
  private static final Pattern DECIMAL = Pattern.compile("-?[0-9]+(\\.[0-9]+)?");

  private Amounts() {}

  /**
   * {@code money("USDC", "12.34")}.
   *
   * @throws IllegalArgumentException for what is no plain decimal, is too large, or would lose digits
   */
  public static Money money(String asset, String amount) {
    return Money.newBuilder().setAsset(asset).setMicros(micros(amount)).build();
  }

  /**
   * The millionths in a decimal: 12_340_000 in "12.34".
   *
   * @throws IllegalArgumentException as {@link #money}
   */
  public static long micros(String amount) {
    if (!DECIMAL.matcher(amount).matches()) {
      throw new IllegalArgumentException("\"" + amount + "\" is no amount: digits, with a point before the fraction");
    }
    BigDecimal exact = new BigDecimal(amount).stripTrailingZeros();
    if (exact.scale() > DIGITS) {
      throw new IllegalArgumentException("\"" + amount + "\" has more than " + DIGITS + " digits after the point");
    }
    try {
      return exact.movePointRight(DIGITS).longValueExact();
    } catch (ArithmeticException tooLarge) {
      throw new IllegalArgumentException("\"" + amount + "\" is larger than any amount", tooLarge);
    }
  }

  /** The exact decimal of an amount, with two digits after the point at least: "12.34". */
  public static String decimal(Money amount) {
    return decimal(amount.getMicros());
  }

  /** The exact decimal of a count of micros. */
  public static String decimal(long micros) {
    BigDecimal exact = BigDecimal.valueOf(micros, DIGITS).stripTrailingZeros();
    return exact.setScale(Math.max(exact.scale(), 2)).toPlainString();
  }
}
