/**
 * Where each room stands: what is stored, what has been received, and snapshots that are under way.
 *
 * A cursor is stored when what it stands for has been handed on. While a snapshot is under way, its cursor and those of
 * the events behind it are not: a failed snapshot would otherwise leave a hole that nobody sees.
 */

import { guarded, type After, type Cancel } from "./platform";
import type { RowcastEvent, RowcastOptions } from "./types";
import type { CursorFrame, EventFrame, ResyncFrame, RoomStart } from "./wire";

/** Events that may wait for a snapshot; beyond, they are asked for again later. */
export const MOST_BUFFERED = 10_000;

interface Snapshot {
  readonly cursor: string;
  readonly reason: string;
  readonly abort: AbortController;
  buffer: (EventFrame | CursorFrame)[];
  failures: number;
  retry?: Cancel;
}

interface Room {
  stored?: string | undefined;
  /** The last that came, handed on or waiting. */
  seen?: string | undefined;
  snapshot?: Snapshot | undefined;
}

export type Rooms = [
  /** Takes over what the application has kept. */
  load: (kept: Record<string, string>) => void,
  /** The stored cursors. */
  stored: () => Record<string, string>,
  /** Where the reception stands: what a next page goes on from. */
  seen: () => Record<string, string>,
  /** What comes goes on from the stored cursors. */
  rewind: () => void,
  /** The rooms that the server names, after `sent` was asked for; `fresh`: this begins a connection. */
  welcome: (rooms: Record<string, RoomStart>, sent: Record<string, string>, fresh: boolean) => void,
  /** An event, or that nothing that is wanted came up to here. */
  take: (frame: EventFrame | CursorFrame) => void,
  resync: (frame: Omit<ResyncFrame, "op">) => void,
  /** Gives up snapshots that are under way. */
  stop: () => void,
];

/** Whether the first is not after the second, as far as one can tell: they are of one stream. */
export function isCovered(cursor: string, by: string | undefined): boolean {
  const [, stream, offset] = cursor.split(/[.:]/);
  const [, otherStream, otherOffset] = (by ?? "").split(/[.:]/);
  return stream === otherStream && Number(offset) <= Number(otherOffset);
}

export function roomsOf(
  options: () => RowcastOptions,
  after: After,
  backoff: (failures: number, max: number, min: number) => number,
  deliver: (event: RowcastEvent) => void,
  /** Too many events wait for a snapshot. */
  overflow: () => void,
  /** A snapshot fails, or fails no more. */
  failing: (failing: boolean) => void,
): Rooms {
  const rooms = new Map<string, Room>();

  const at = (name: string): Room => {
    let room = rooms.get(name);
    if (!room) rooms.set(name, (room = {}));
    return room;
  };

  const listed = (which: "stored" | "seen"): Record<string, string> => {
    const all: Record<string, string> = {};
    for (const [name, room] of rooms) {
      const cursor = room[which];
      if (cursor !== undefined) all[name] = cursor;
    }
    return all;
  };

  const drop = (room: Room): void => {
    room.snapshot?.retry?.();
    room.snapshot?.abort.abort();
    room.snapshot = undefined;
    tell();
  };

  const tell = (): void => failing([...rooms.values()].some((room) => room.snapshot?.failures));

  const hand = (room: Room, frame: EventFrame | CursorFrame): void => {
    room.stored = frame.cursor;
    if (frame.op === "event") {
      const { op, ...event } = frame;
      deliver(event);
    }
    // What is kept has been handed on.
    save();
  };

  const save = (): void => {
    const { cursors } = options();
    if (cursors) guarded(() => cursors.save(listed("stored")));
  };

  const take = async (name: string, room: Room, snapshot: Snapshot): Promise<void> => {
    const { cursor, reason, abort } = snapshot;
    try {
      await options().onResync?.({ room: name, cursor, reason, signal: abort.signal });
    } catch {
      if (room.snapshot !== snapshot) return;
      snapshot.retry = after(backoff(snapshot.failures++, 30_000, 1_000), () => void take(name, room, snapshot));
      return tell();
    }
    if (room.snapshot !== snapshot) return;
    room.stored = cursor;
    save();
    for (const frame of snapshot.buffer) {
      hand(room, frame);
      // A handler may end the client: the rest is not to be handed on then.
      if (room.snapshot !== snapshot) return;
    }
    room.snapshot = undefined;
    tell();
  };

  const resync = ({ room: name, cursor, reason }: Omit<ResyncFrame, "op">): void => {
    const room = at(name);
    drop(room);
    room.seen = cursor;
    if (!options().onResync) {
      room.stored = cursor;
      return save();
    }
    const snapshot: Snapshot = { cursor, reason, abort: new AbortController(), buffer: [], failures: 0 };
    room.snapshot = snapshot;
    void take(name, room, snapshot);
  };

  return [
    (kept) => {
      for (const [name, cursor] of Object.entries(kept)) at(name).stored ??= cursor;
    },
    () => listed("stored"),
    () => listed("seen"),
    () => {
      for (const room of rooms.values()) room.seen = room.stored;
    },
    (named, sent, fresh) => {
      for (const [name, room] of rooms)
        if (!(name in named)) {
          drop(room);
          rooms.delete(name);
        }
      for (const [name, { cursor, resumed }] of Object.entries(named)) {
        const room = at(name);
        if (fresh) room.seen = room.stored;
        // Who goes on from the stored cursor needs no snapshot any more.
        if (resumed) {
          if (fresh) drop(room);
        } else if (sent[name] === undefined) resync({ room: name, cursor, reason: "start" });
      }
    },
    (frame) => {
      const room = at(frame.room);
      const { snapshot } = room;
      if (isCovered(frame.cursor, room.seen)) return;
      room.seen = frame.cursor;
      if (!snapshot) return hand(room, frame);
      if (snapshot.buffer.push(frame) <= MOST_BUFFERED) return;
      snapshot.buffer = [];
      overflow();
    },
    resync,
    () => {
      for (const room of rooms.values()) drop(room);
    },
  ];
}
