// A live balance: opened as index.html#gateway=http://…&token=…, it shows each balance as it changes.
import { type Balance, decimal, WalletError } from "@monay/wallet";
import { connect } from "@monay/wallet/web";

const given = new URLSearchParams(location.hash.slice(1));
const state = document.getElementById("state") as HTMLElement;
const rows = new Map<string, HTMLTableRowElement>();

function show(balance: Balance): void {
  const row = rows.get(balance.asset) ?? addRow(balance.asset);
  row.className = balance.availableMicros === 0n ? "zero" : "";
  row.cells[1]!.textContent = decimal(balance.availableMicros);
  say("live", "live");
}

function addRow(asset: string): HTMLTableRowElement {
  const row = (document.getElementById("balances") as HTMLTableSectionElement).insertRow();
  row.insertCell().textContent = asset;
  row.insertCell();
  rows.set(asset, row);
  return row;
}

function say(text: string, how: string): void {
  state.textContent = text;
  state.className = how;
}

const wallet = connect(given.get("gateway") ?? location.origin, given.get("token") ?? "");
wallet.watchBalances(show).catch((error: unknown) => {
  say(error instanceof WalletError ? error.reasonName || "ended" : "ended", "ended");
});
