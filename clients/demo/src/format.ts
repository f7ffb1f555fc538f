/** Times, prices and names as merchants read them. Pure. */

import type { Service } from "./board/board";

const DAY = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric" });
const HOUR = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** `Sat 28, 10:30` */
export function appointment(startTime: string): string {
  const start = new Date(startTime);
  return Number.isNaN(start.getTime()) ? startTime : `${DAY.format(start)}, ${HOUR.format(start)}`;
}

/** `10:30:07` */
export function clock(ms: number): string {
  return CLOCK.format(ms);
}

/** `90 min · €75` */
export function servicePrice({ durationMinutes, priceCents }: Service): string {
  const euros = priceCents / 100;
  return `${durationMinutes} min · €${Number.isInteger(euros) ? euros : euros.toFixed(2)}`;
}

/** `salon-anna` → `Salon Anna` */
export function merchantName(merchant: string): string {
  return merchant
    .split("-")
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join(" ");
}
