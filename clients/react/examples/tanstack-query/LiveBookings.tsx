/** Snapshot and live in one place: fetches what history does not reach, and puts each event on top of it. */

import { useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import type { Resync, RowcastOptions } from "@rowcast/client";
import { RowcastProvider, useRowcastEvent } from "@rowcast/react";
import { applied, bookingsOf, fetchBookings } from "./bookings";

interface LiveBookingsProps {
  /** Where Rowcast is, and the token. */
  readonly options: Omit<RowcastOptions, "onResync">;
  readonly children: ReactNode;
}

export function LiveBookings({ options, children }: LiveBookingsProps) {
  const queries = useQueryClient();

  /**
   * Until this promise resolves the client keeps the room's events back and its old cursor; where it rejects it calls again. So it
   * must resolve when the rows are in the cache and not before, and must not hide a failure.
   */
  async function onResync({ room, signal }: Resync): Promise<void> {
    const { queryKey } = bookingsOf(room);
    const rows = await fetchBookings(room, signal);
    // A fetch that Query began by itself is older than these rows, and may end after them.
    await queries.cancelQueries({ queryKey });
    queries.setQueryData(queryKey, rows);
  }

  return (
    <RowcastProvider options={{ ...options, onResync }}>
      <Apply />
      {children}
    </RowcastProvider>
  );
}

/** One for all rooms and all components: a room is a merchant. */
function Apply() {
  const queries = useQueryClient();
  useRowcastEvent("booking.*", (event) => {
    queries.setQueryData(bookingsOf(event.room).queryKey, (rows) => rows && applied(rows, event));
  });
  return null;
}
