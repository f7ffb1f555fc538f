/** Times, prices and names as merchants read them. Pure. */

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

/** `€75`, `€75.50` */
export function price(cents: number): string {
  return `€${cents % 100 === 0 ? cents / 100 : (cents / 100).toFixed(2)}`;
}

/** `salon-anna` → `Salon Anna` */
export function merchantName(merchant: string): string {
  return merchant
    .split("-")
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join(" ");
}
