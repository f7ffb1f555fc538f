/** One booking: what was booked, and what can be done with it. Its last change is highlighted for a moment. */

import { memo, type ReactNode } from "react";
import { deleteBooking, setStatus } from "../api";
import { appointment, price } from "../format";
import { Icon } from "../icons";
import type { Booking, Entry } from "./board";

interface BookingCardProps {
  readonly entry: Entry;
  readonly onGone: (id: number) => void;
  readonly onError: (error: unknown) => void;
}

export const BookingCard = memo(function BookingCard({ entry, onGone, onError }: BookingCardProps) {
  const { booking, change } = entry;
  const act = (request: Promise<unknown>) => void request.catch(onError);
  return (
    <li
      className="booking"
      data-booking={booking.id}
      data-status={booking.status}
      data-change={change}
      inert={change === "leaving"}
      onAnimationEnd={(event) => event.animationName === "leave" && onGone(booking.id)}
    >
      <div className="booking-top">
        <Field entry={entry} name="startTime">
          <time dateTime={booking.startTime}>{appointment(booking.startTime)}</time>
        </Field>
        <span className="booking-number">{booking.bookingNumber}</span>
      </div>
      <p className="booking-who">
        <Field entry={entry} name="customerName">
          {booking.customerName}
        </Field>
      </p>
      <p className="booking-what">
        <Field entry={entry} name="service">
          {booking.service?.name ?? "No service chosen"}
        </Field>
        {booking.service !== null && (
          <span>
            <span className="booking-long">{booking.service.durationMinutes} min · </span>
            {price(booking.service.priceCents)}
          </span>
        )}
      </p>
      <div className="booking-actions" role="group" aria-label={`Booking ${booking.bookingNumber}, ${booking.customerName}`}>
        {booking.status === "PENDING" && <Action icon="check" name="Confirm" booking={booking} onPress={() => act(setStatus(booking.id, "CONFIRMED"))} />}
        {booking.status !== "CANCELLED" && <Action icon="cancel" name="Cancel" booking={booking} onPress={() => act(setStatus(booking.id, "CANCELLED"))} />}
        <Action icon="trash" name="Delete" booking={booking} onPress={() => act(deleteBooking(booking.id))} />
      </div>
    </li>
  );
});

/** A field that lights up when the last change touched it; the key restarts the light with each touch. */
function Field({ entry, name, children }: { readonly entry: Entry; readonly name: string; readonly children: ReactNode }) {
  const lit = entry.change === "changed" && entry.fields.includes(name);
  return (
    <span key={lit ? entry.touch : 0} className={lit ? "field lit" : "field"}>
      {children}
    </span>
  );
}

interface ActionProps {
  readonly icon: "check" | "cancel" | "trash";
  readonly name: string;
  readonly booking: Booking;
  readonly onPress: () => void;
}

function Action({ icon, name, booking, onPress }: ActionProps) {
  return (
    <button type="button" className="icon-button" data-action={name.toLowerCase()} title={name} aria-label={`${name} ${booking.bookingNumber}`} onClick={onPress}>
      <Icon name={icon} />
    </button>
  );
}
