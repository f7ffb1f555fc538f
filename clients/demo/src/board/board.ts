/** A merchant's board: what snapshots and events make of it. Pure; nothing here knows React or the network. */

export type BookingStatus = "PENDING" | "CONFIRMED" | "CANCELLED";

export const STATUSES: readonly BookingStatus[] = ["PENDING", "CONFIRMED", "CANCELLED"];

export interface Service {
  readonly name: string;
  readonly durationMinutes: number;
  readonly priceCents: number;
}

/** A booking as the payload function sends it. */
export interface Booking {
  readonly id: number;
  readonly bookingNumber: string;
  readonly merchantId: string;
  readonly customerName: string;
  readonly status: BookingStatus;
  readonly startTime: string;
  readonly service: Service | null;
}

/** A booking on the board, with what is to be shown of its last change. */
export interface Entry {
  readonly booking: Booking;
  /** Grows with each change, so that the same highlight can be shown again. */
  readonly touch: number;
  /** What the last change did; `none` came with the first snapshot. */
  readonly change: "none" | "arrived" | "changed" | "leaving";
  /** The columns that the last change touched. */
  readonly fields: readonly string[];
}

export interface Board {
  readonly entries: ReadonlyMap<number, Entry>;
  readonly touches: number;
  /** Whether a snapshot has come: before it, an empty board means nothing. */
  readonly loaded: boolean;
}

export const EMPTY_BOARD: Board = { entries: new Map(), touches: 0, loaded: false };

/** The part of an event that the board needs. */
export interface BoardEvent {
  readonly type: string;
  readonly data: unknown;
  readonly changed?: readonly string[];
}

/** The board after an event; the same object where the event changes nothing. */
export function applyEvent(board: Board, event: BoardEvent): Board {
  switch (event.type) {
    case "booking.created":
    case "booking.updated":
      return isBooking(event.data) ? put(board, event.data, event.changed) : board;
    case "booking.deleted":
      return hasId(event.data) ? leave(board, event.data.id) : board;
    default:
      return board;
  }
}

/** The board after a snapshot, which says all there is: what is not in it has gone. */
export function applySnapshot(board: Board, bookings: readonly Booking[]): Board {
  const touch = board.touches + 1;
  const entries = new Map<number, Entry>();
  for (const booking of bookings) {
    const before = board.entries.get(booking.id);
    entries.set(booking.id, before === undefined || before.change === "leaving" ? arrival(board, booking, touch) : renewed(before, booking, touch));
  }
  for (const [id, entry] of board.entries) {
    if (!entries.has(id)) entries.set(id, { ...entry, touch, change: "leaving", fields: [] });
  }
  return { entries, touches: touch, loaded: true };
}

/** Takes away what has finished leaving. */
export function forget(board: Board, id: number): Board {
  if (board.entries.get(id)?.change !== "leaving") return board;
  const entries = new Map(board.entries);
  entries.delete(id);
  return { ...board, entries };
}

/** The bookings of each status, the newest first; leaving ones keep their place until they are forgotten. */
export function byStatus(board: Board): Record<BookingStatus, readonly Entry[]> {
  const columns: Record<BookingStatus, Entry[]> = { PENDING: [], CONFIRMED: [], CANCELLED: [] };
  for (const entry of board.entries.values()) columns[entry.booking.status].push(entry);
  for (const status of STATUSES) columns[status].sort((one, other) => other.booking.id - one.booking.id);
  return columns;
}

/** How many there are of each status, without those that are leaving. */
export function counts(board: Board): Record<BookingStatus, number> {
  const result: Record<BookingStatus, number> = { PENDING: 0, CONFIRMED: 0, CANCELLED: 0 };
  for (const { booking, change } of board.entries.values()) if (change !== "leaving") result[booking.status] += 1;
  return result;
}

function put(board: Board, booking: Booking, changed: readonly string[] | undefined): Board {
  const touch = board.touches + 1;
  const before = board.entries.get(booking.id);
  const entry: Entry =
    before === undefined || before.change === "leaving"
      ? { booking, touch, change: "arrived", fields: [] }
      : { booking, touch, change: "changed", fields: changed ?? differences(before.booking, booking) };
  return { ...board, entries: new Map(board.entries).set(booking.id, entry), touches: touch };
}

function leave(board: Board, id: number): Board {
  const before = board.entries.get(id);
  if (before === undefined || before.change === "leaving") return board;
  const touch = board.touches + 1;
  const entry: Entry = { ...before, touch, change: "leaving", fields: [] };
  return { ...board, entries: new Map(board.entries).set(id, entry), touches: touch };
}

/** With the first snapshot all come at once: nothing of it is news. */
function arrival(board: Board, booking: Booking, touch: number): Entry {
  return { booking, touch, change: board.loaded ? "arrived" : "none", fields: [] };
}

function renewed(before: Entry, booking: Booking, touch: number): Entry {
  const fields = differences(before.booking, booking);
  return fields.length === 0 ? { ...before, booking } : { booking, touch, change: "changed", fields };
}

/** The fields in which two images of a booking differ. */
export function differences(before: Booking, after: Booking): string[] {
  const plain = (["customerName", "status", "startTime"] as const).filter((field) => before[field] !== after[field]);
  return before.service?.name === after.service?.name ? plain : [...plain, "service"];
}

function hasId(data: unknown): data is { readonly id: number } {
  return typeof data === "object" && data !== null && "id" in data && typeof data.id === "number";
}

/** Whether an event carries a whole booking: one that was too large names its key alone. */
function isBooking(data: unknown): data is Booking {
  return hasId(data) && "status" in data && STATUSES.some((status) => status === data.status);
}
