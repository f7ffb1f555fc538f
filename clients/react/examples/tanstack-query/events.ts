/** The events of the watched tables, as `rowcast types --out events.ts` writes them, and the hooks' knowledge of them. */

export interface Booking {
  id: number;
  merchantId: string;
  customerName: string;
  status: "pending" | "confirmed" | "cancelled";
}

export interface Events {
  "booking.created": Booking;
  "booking.updated": Booking;
  "booking.deleted": Booking;
}

declare module "@rowcast/react" {
  interface Register {
    events: Events;
  }
}
