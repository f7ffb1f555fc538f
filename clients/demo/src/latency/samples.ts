/** Of the latencies: what is measured, and what is said of them. Pure. */

/** How many are kept and shown. */
export const KEPT = 200;

export interface Sample {
  readonly merchant: string;
  /** From the commit until it was on the screen, in milliseconds. */
  readonly ms: number;
}

/** An event's time in milliseconds since 1970, with its microseconds, which `Date.parse` drops. */
export function milliseconds(at: string): number {
  const fraction = /\.\d{3}(\d{1,3})/.exec(at)?.[1] ?? "";
  return Date.parse(at) + Number(fraction.padEnd(3, "0")) / 1_000;
}

/** The value that a share of all is not above (nearest rank); null of nothing. */
export function quantile(values: readonly number[], share: number): number | null {
  const sorted = [...values].sort((one, other) => one - other);
  const rank = Math.max(1, Math.ceil(sorted.length * share));
  return sorted[rank - 1] ?? null;
}

/** A duration for people: three digits are enough. */
export function duration(ms: number | null): string {
  if (ms === null) return "–";
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  return ms < 10_000 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.round(ms / 1_000)} s`;
}

/** Where a latency stands on a logarithmic axis from `least` to `most`: 0 is the bottom, 1 the top. */
export function height(ms: number, least: number, most: number): number {
  const inside = Math.min(most, Math.max(least, ms));
  return Math.log(inside / least) / Math.log(most / least);
}
