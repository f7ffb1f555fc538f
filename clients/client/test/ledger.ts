/** What was handed on, and whether it was right: each event once and in order, or covered by a snapshot. */

import type { Resync, RowcastEvent } from "../src/index";

/** What an application knows of a room: everything up to an offset of a stream. */
export class Ledger {
  private readonly known = new Map<string, { stream: string; offset: number }>();
  handedOn = 0;
  snapshots = 0;
  readonly faults: string[] = [];

  event({ room, cursor }: RowcastEvent): void {
    this.handedOn++;
    const [, stream, offset] = cursor.split(/[.:]/) as [string, string, string];
    const known = this.known.get(room);
    if (!known) this.faults.push(`${room} ${cursor}: without a snapshot before it`);
    else if (known.stream !== stream || known.offset + 1 !== Number(offset))
      this.faults.push(`${room} ${cursor}: after ${known.stream}:${known.offset}`);
    this.known.set(room, { stream, offset: Number(offset) });
  }

  snapshot({ room, cursor }: Resync): void {
    this.snapshots++;
    const [, stream, offset] = cursor.split(/[.:]/) as [string, string, string];
    this.known.set(room, { stream, offset: Number(offset) });
  }

  of(room: string): string {
    const known = this.known.get(room);
    return known ? `${known.stream}:${known.offset}` : "nothing";
  }
}
