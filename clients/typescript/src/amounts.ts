// Amounts as people write them, and as the wallet counts them: bigints, without a number in between.
import { create } from "@bufbuild/protobuf";
import { type Money, MoneySchema } from "./gen/monay/wallet/v1/money_pb.js";

const DIGITS = 6;
const MICROS = 1_000_000n;
const LARGEST = 2n ** 63n - 1n;
const DECIMAL = /^(-?)([0-9]+)(?:\.([0-9]+))?$/;

/** `money("USDC", "12.34")`. Throws a RangeError for what is no plain decimal, is too large, or would lose digits. */
export function money(asset: string, amount: string): Money {
  return create(MoneySchema, { asset, micros: micros(amount) });
}

/** The millionths in a decimal: `micros("12.34") === 12_340_000n`. Throws a RangeError, as `money` does. */
export function micros(amount: string): bigint {
  const match = DECIMAL.exec(amount);
  if (match === null) {
    throw new RangeError(`"${amount}" is no amount: digits, with a point before the fraction`);
  }
  const fraction = (match[3] ?? "").replace(/0+$/, "");
  if (fraction.length > DIGITS) {
    throw new RangeError(`"${amount}" has more than ${DIGITS} digits after the point`);
  }
  const count = BigInt(match[2] ?? "0") * MICROS + BigInt(fraction.padEnd(DIGITS, "0"));
  if (count > LARGEST) {
    throw new RangeError(`"${amount}" is larger than any amount`);
  }
  return match[1] === "-" ? -count : count;
}

/** The exact decimal of an amount or of a count of micros, with two digits after the point at least: "12.34". */
export function decimal(amount: Money | bigint): string {
  const count = typeof amount === "bigint" ? amount : amount.micros;
  const positive = count < 0n ? -count : count;
  const fraction = (positive % MICROS).toString().padStart(DIGITS, "0").replace(/0+$/, "").padEnd(2, "0");
  return `${count < 0n ? "-" : ""}${positive / MICROS}.${fraction}`;
}
