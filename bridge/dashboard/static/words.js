// Numbers, times and money as people read them. Money is exact: units are whole numbers of any size.

const NUMBER = new Intl.NumberFormat("en");

export const count = (value) => NUMBER.format(value);

export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

export function percent(share, digits = 1) {
  return share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)} %`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  return value >= 10_000 ? `${(value / 1000).toFixed(1)} s` : `${value >= 100 ? Math.round(value) : value.toFixed(1)} ms`;
}

const two = (value) => String(value).padStart(2, "0");

/** A day, in UTC. */
export function day(seconds) {
  const at = new Date(seconds * 1000);
  return `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())}`;
}

/** A minute, in UTC. */
export function minute(seconds) {
  const at = new Date(seconds * 1000);
  return `${day(seconds)} ${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
}

/** A second, in UTC. */
export const second = (seconds) => `${minute(seconds)}:${two(new Date(seconds * 1000).getUTCSeconds())}`;

/** How long ago. */
export function ago(seconds, now) {
  const passed = Math.max(0, now - seconds);
  if (passed < 90) return `${Math.round(passed)} s ago`;
  if (passed < 5400) return `${Math.round(passed / 60)} min ago`;
  return passed < 172_800 ? `${Math.round(passed / 3600)} h ago` : `${Math.round(passed / 86_400)} days ago`;
}

/** An address, short enough for a table. */
export const short = (text) => (text.length > 16 ? `${text.slice(0, 8)}…${text.slice(-4)}` : text);

/** Atomic units with the token's decimals: every digit, and at least two after the point. */
export function exact(units, decimals) {
  const digits = String(units).padStart(decimals + 1, "0");
  const whole = digits.slice(0, digits.length - decimals).replace(/\B(?=(\d{3})+$)/g, ",");
  const part = decimals ? digits.slice(-decimals).replace(/0+$/, "").padEnd(Math.min(2, decimals), "0") : "";
  return part ? `${whole}.${part}` : whole;
}

/** The token that an asset of a report is, if it is known: `address`, or `network/address`. */
export function tokenOf(asset, tokens) {
  const cut = asset.lastIndexOf("/");
  const network = cut < 0 ? null : asset.slice(0, cut);
  const address = asset.slice(cut + 1).toLowerCase();
  const found = tokens.filter((token) => token.address.toLowerCase() === address && (network === null || token.network === network));
  // One address may be another token on another network: only what all of them say is said.
  return found.length && found.every((token) => token.decimals === found[0].decimals && token.symbol === found[0].symbol) ? found[0] : null;
}

/** Call each token by its symbol, and by its network too where several of that symbol are in `assets`. */
export function label(tokens, assets) {
  const seen = new Set(assets.map((asset) => asset.toLowerCase()));
  const present = tokens.filter((token) => seen.has(token.address.toLowerCase()));
  for (const token of tokens) {
    const others = present.filter((other) => other.symbol === token.symbol);
    token.label = others.length > 1 ? `${token.symbol} (${token.network_name ?? token.network})` : token.symbol;
  }
}

/** A sum of one asset in words. */
export function sum(asset, units, tokens) {
  const token = tokenOf(asset, tokens);
  return token ? `${exact(units, token.decimals)} ${token.label}` : `${exact(units, 0)} units of ${short(asset.slice(asset.lastIndexOf("/") + 1)) || "?"}`;
}

/** What an asset is called. */
export const assetName = (asset, tokens) => tokenOf(asset, tokens)?.label ?? (short(asset.slice(asset.lastIndexOf("/") + 1)) || "unknown asset");

/** Sums by asset, each on a line of its own. */
export const sums = (revenue, tokens) => Object.entries(revenue).map(([asset, units]) => sum(asset, units, tokens));
