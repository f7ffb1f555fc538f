/** A component knows Query alone. It needs Rowcast for the light, and shows its rows without it as well. */

import { useQuery } from "@tanstack/react-query";
import { ConnectionStatus } from "@rowcast/react";
import { bookingsOf } from "./bookings";

export function Board({ merchant }: { readonly merchant: string }) {
  const { data: bookings, isPending } = useQuery(bookingsOf(merchant));
  return (
    <section aria-busy={isPending}>
      <ConnectionStatus />
      <ul>
        {bookings?.map(({ id, customerName, status }) => (
          <li key={id}>{`${customerName}, ${status}`}</li>
        ))}
      </ul>
    </section>
  );
}
