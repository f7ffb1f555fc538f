import { describe, expect, it } from "vitest";
import { applyEvent, applySnapshot, byStatus, counts, EMPTY_BOARD, forget, type Board, type Booking } from "./board";

function booking(id: number, changes: Partial<Booking> = {}): Booking {
  return {
    id,
    bookingNumber: `B-${1000 + id}`,
    merchantId: "salon-anna",
    customerName: "Ida",
    status: "PENDING",
    startTime: "2026-11-28T10:00:00+00:00",
    service: { name: "Haircut", durationMinutes: 30, priceCents: 2900 },
    ...changes,
  };
}

function loaded(...bookings: Booking[]): Board {
  return applySnapshot(EMPTY_BOARD, bookings);
}

function ids(board: Board): number[] {
  return [...board.entries.keys()].sort((one, other) => one - other);
}

describe("events", () => {
  it("a created booking arrives, marked as news", () => {
    const board = applyEvent(loaded(), { type: "booking.created", data: booking(1) });
    expect(board.entries.get(1)).toMatchObject({ change: "arrived", booking: { id: 1 } });
  });

  it("an update replaces the booking and names the columns that changed", () => {
    const after = booking(1, { status: "CONFIRMED" });
    const board = applyEvent(loaded(booking(1)), { type: "booking.updated", data: after, changed: ["status"] });
    expect(board.entries.get(1)).toMatchObject({ booking: after, change: "changed", fields: ["status"] });
    expect(counts(board)).toEqual({ PENDING: 0, CONFIRMED: 1, CANCELLED: 0 });
  });

  it("each change of the same booking is told from the one before", () => {
    const once = applyEvent(loaded(booking(1)), { type: "booking.updated", data: booking(1), changed: ["startTime"] });
    const twice = applyEvent(once, { type: "booking.updated", data: booking(1), changed: ["startTime"] });
    expect(twice.entries.get(1)?.touch).toBeGreaterThan(once.entries.get(1)?.touch ?? Infinity);
  });

  it("a deleted booking leaves: counted no more, shown until it is forgotten", () => {
    const leaving = applyEvent(loaded(booking(1), booking(2)), { type: "booking.deleted", data: { id: 1 } });
    expect(leaving.entries.get(1)?.change).toBe("leaving");
    expect(counts(leaving).PENDING).toBe(1);
    expect(ids(forget(leaving, 1))).toEqual([2]);
  });

  it("what has come back meanwhile is not forgotten", () => {
    const leaving = applyEvent(loaded(booking(1)), { type: "booking.deleted", data: { id: 1 } });
    const back = applyEvent(leaving, { type: "booking.created", data: booking(1) });
    expect(forget(back, 1)).toBe(back);
  });

  it("an event of another type, a truncated one, and the removal of what is not there change nothing", () => {
    const board = loaded(booking(1));
    expect(applyEvent(board, { type: "note.added", data: { id: 1 } })).toBe(board);
    expect(applyEvent(board, { type: "booking.updated", data: { id: 1 } })).toBe(board);
    expect(applyEvent(board, { type: "booking.deleted", data: { id: 9 } })).toBe(board);
  });

  it("events that a snapshot already contains end in the same board", () => {
    const events = [
      { type: "booking.created", data: booking(1) },
      { type: "booking.created", data: booking(2) },
      { type: "booking.updated", data: booking(2, { status: "CANCELLED" }), changed: ["status"] },
      { type: "booking.deleted", data: { id: 1 } },
    ];
    const board = events.reduce(applyEvent, loaded(booking(2, { status: "CANCELLED" })));
    expect(ids(forget(board, 1))).toEqual([2]);
    expect(board.entries.get(2)?.booking.status).toBe("CANCELLED");
  });
});

describe("snapshots", () => {
  it("nothing of the first one is news", () => {
    expect(loaded(booking(1)).entries.get(1)?.change).toBe("none");
  });

  it("a later one removes what has gone, adds what has come, and marks what differs", () => {
    const board = applySnapshot(loaded(booking(1), booking(2), booking(3)), [
      booking(2),
      booking(3, { customerName: "Mara" }),
      booking(4),
    ]);
    const changes = ids(board).map((id) => board.entries.get(id)?.change);
    expect(changes).toEqual(["leaving", "none", "changed", "arrived"]);
    expect(board.entries.get(3)?.fields).toEqual(["customerName"]);
  });
});

describe("columns", () => {
  it("hold each booking once, the newest first", () => {
    const columns = byStatus(loaded(booking(1), booking(3), booking(2), booking(4, { status: "CONFIRMED" })));
    expect(columns.PENDING.map((entry) => entry.booking.id)).toEqual([3, 2, 1]);
    expect(columns.CONFIRMED.map((entry) => entry.booking.id)).toEqual([4]);
    expect(columns.CANCELLED).toEqual([]);
  });
});
