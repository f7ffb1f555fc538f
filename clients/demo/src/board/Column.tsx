/** The bookings of one status: a heading with their number, and a list that scrolls by itself. */

import { memo, useId } from "react";
import type { BookingStatus, Entry } from "./board";
import { BookingCard } from "./BookingCard";

const NAMES: Readonly<Record<BookingStatus, string>> = { PENDING: "Pending", CONFIRMED: "Confirmed", CANCELLED: "Cancelled" };

interface ColumnProps {
  readonly status: BookingStatus;
  readonly entries: readonly Entry[];
  readonly count: number;
  readonly loaded: boolean;
  readonly onGone: (id: number) => void;
  readonly onError: (error: unknown) => void;
}

export const Column = memo(function Column({ status, entries, count, loaded, onGone, onError }: ColumnProps) {
  const title = useId();
  return (
    <div className="column" data-status={status}>
      <h3 id={title}>
        {NAMES[status]} <span className="count">{loaded ? count : "–"}</span>
      </h3>
      <ul className="bookings" tabIndex={0} aria-labelledby={title}>
        {entries.map((entry) => (
          <BookingCard key={entry.booking.id} entry={entry} onGone={onGone} onError={onError} />
        ))}
        {loaded && entries.length === 0 && <li className="nothing">None</li>}
      </ul>
    </div>
  );
});
