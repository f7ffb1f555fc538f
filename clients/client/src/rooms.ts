/**
 * Where each room stands: what is stored, what has been received, and snapshots that are under way.
 *
 * A cursor is stored when what it stands for has been handed on. While a snapshot is under way, its cursor and those of
 * the events behind it are not: a failed snapshot would otherwise leave a hole that nobody sees.
 */

import { guarded, type After, type Cancel } from "./platform";
import type { RowcastEvent, RowcastOptions } from "./types";
import type { EventFrame, ResyncFrame, RoomStart } from "./wire";

/** Events that may wait for a snapshot; beyond, they are asked for again later. */
export const MOST_BUFFERED = 10_000;

interface Snapshot {
  readonly cursor: string;
  readonly reason: string;
  readonly abort: AbortController;
  buffer: (EventFrame | string)[];
  failures: number;
  retry?: Cancel;
}

interface Room {
  stored?: string | undefined;
  /** The last that came, handed on or waiting. */
  seen?: string | undefined;
  snapshot?: Snapshot | undefined;
}

export interface Rooms {
  /** Takes over what the application has kept. */
  load(kept: Record<string, string>): void;
  /** The stored cursors. */
  stored(): Record<string, string>;
  /** Where the reception stands: what a next page goes on from. */
  seen(): Record<string, string>;
  /** What comes goes on from the stored cursors. */
  rewind(): void;
  /** The rooms that the server names, after `sent` was asked for; `fresh`: it knows of nothing else, because this is a connection's first. */
  welcome(rooms: Record<string, RoomStart>, sent: Record<string, string>, fresh: boolean): void;
  /** The rooms of a new token. */
  refreshed(rooms: Record<string, RoomStart>): void;
  event(frame: EventFrame): void;
  resync(frame: Omit<ResyncFrame, "op">): void;
  /** Nothing that is wanted came before this. */
  cursor(room: string, cursor: string): void;
  /** Keeps what has changed. */
  save(): void;
  /** Gives up snapshots that are under way. */
  stop(): void;
}

/** Whether the first is not after the second, as far as one can tell: they are of one stream. */
export function isCovered(cursor: string, by: string | undefined): boolean {
  const [, stream, offset] = cursor.split(/[.:]/);
  const [, otherStream, otherOffset] = (by ?? "").split(/[.:]/);
  return stream === otherStream && Number(offset) <= Number(otherOffset);
}

export function roomsOf(env: {
  readonly options: () => RowcastOptions;
  readonly after: After;
  readonly backoff: (failures: number, min: number, max: number) => number;
  readonly deliver: (event: RowcastEvent) => void;
  /** Too many events wait for a snapshot. */
  readonly overflow: () => void;
  /** A snapshot fails, or fails no more. */
  readonly failing: (failing: boolean) => void;
}): Rooms {
  const rooms = new Map<string, Room>();
  let dirty = false;

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

  const store = (room: Room, cursor: string): void => {
    room.stored = cursor;
    dirty = true;
  };

  const drop = (room: Room): void => {
    room.snapshot?.retry?.();
    room.snapshot?.abort.abort();
    room.snapshot = undefined;
    tell();
  };

  const tell = (): void => env.failing([...rooms.values()].some((room) => room.snapshot?.failures));

  const hand = (room: Room, what: EventFrame | string): void => {
    if (typeof what === "string") return store(room, what);
    const { op, ...event } = what;
    store(room, event.cursor);
    env.deliver(event);
  };

  const save = (): void => {
    if (!dirty) return;
    dirty = false;
    guarded(() => env.options().cursors?.save(listed("stored")));
  };

  const take = async (name: string, room: Room, snapshot: Snapshot): Promise<void> => {
    const { cursor, reason, abort } = snapshot;
    try {
      await env.options().onResync?.({ room: name, cursor, reason, signal: abort.signal });
    } catch {
      if (room.snapshot !== snapshot) return;
      snapshot.retry = env.after(env.backoff(snapshot.failures++, 1_000, 30_000), () => void take(name, room, snapshot));
      return tell();
    }
    if (room.snapshot !== snapshot) return;
    store(room, cursor);
    for (const what of snapshot.buffer) {
      hand(room, what);
      // A handler may end the client: the rest is not to be handed on then.
      if (room.snapshot !== snapshot) return;
    }
    room.snapshot = undefined;
    tell();
    save();
  };

  const resync: Rooms["resync"] = ({ room: name, cursor, reason }) => {
    const room = at(name);
    drop(room);
    room.seen = cursor;
    if (!env.options().onResync) return store(room, cursor);
    const snapshot: Snapshot = { cursor, reason, abort: new AbortController(), buffer: [], failures: 0 };
    room.snapshot = snapshot;
    void take(name, room, snapshot);
  };

  const pass = (room: Room, what: EventFrame | string): void => {
    if (!room.snapshot) return hand(room, what);
    if (room.snapshot.buffer.push(what) <= MOST_BUFFERED) return;
    room.snapshot.buffer = [];
    env.overflow();
  };

  const leave = (named: Record<string, RoomStart>): void => {
    for (const [name, room] of rooms)
      if (!(name in named)) {
        drop(room);
        rooms.delete(name);
        dirty = true;
      }
  };

  return {
    load(kept) {
      for (const [name, cursor] of Object.entries(kept)) at(name).stored ??= cursor;
    },
    stored: () => listed("stored"),
    seen: () => listed("seen"),
    rewind() {
      for (const room of rooms.values()) room.seen = room.stored;
    },
    welcome(named, sent, fresh) {
      leave(named);
      for (const [name, { cursor, resumed }] of Object.entries(named)) {
        const room = at(name);
        if (fresh) room.seen = room.stored;
        // Who goes on from the stored cursor needs no snapshot any more.
        if (resumed) {
          if (fresh) drop(room);
        } else if (sent[name] === undefined) resync({ room: name, cursor, reason: "start" });
      }
    },
    refreshed(named) {
      leave(named);
      for (const [room, { cursor }] of Object.entries(named))
        if (!rooms.has(room)) resync({ room, cursor, reason: "start" });
    },
    event(frame) {
      const room = at(frame.room);
      if (isCovered(frame.cursor, room.seen)) return;
      room.seen = frame.cursor;
      pass(room, frame);
    },
    resync,
    cursor(name, cursor) {
      const room = at(name);
      if (room.seen === cursor || isCovered(cursor, room.seen)) return;
      room.seen = cursor;
      pass(room, cursor);
    },
    save,
    stop() {
      for (const room of rooms.values()) drop(room);
      save();
    },
  };
}
