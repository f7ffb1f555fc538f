/** A merchant's bookings: how they are fetched, where they are kept, and what an event makes of them. */

import { queryOptions } from "@tanstack/react-query";
import type { AnyEvent } from "@rowcast/client";
import type { Booking, Events } from "./events";

export async function fetchBookings(merchant: string, signal: AbortSignal): Promise<Booking[]> {
  const answer = await fetch(`/api/bookings?merchant=${encodeURIComponent(merchant)}`, { signal });
  if (!answer.ok) throw new Error(`bookings: ${answer.status}`);
  return (await answer.json()) as Booking[];
}

export function bookingsOf(merchant: string) {
  return queryOptions({
    queryKey: ["bookings", merchant],
    queryFn: ({ signal }) => fetchBookings(merchant, signal),
    // Events keep it as new as it can be. A refetch at a window's focus would begin before the next event and could end after it, with older rows.
    staleTime: Infinity,
    // Events go on while no component shows it; thrown away, it would miss them.
    gcTime: Infinity,
  });
}

/** The rows after an event. Taking one twice changes nothing. */
export function applied(rows: readonly Booking[], event: AnyEvent<Events>): Booking[] {
  const others = rows.filter(({ id }) => id !== event.data.id);
  return event.type === "booking.deleted" ? others : [...others, event.data].sort((a, b) => a.id - b.id);
}
