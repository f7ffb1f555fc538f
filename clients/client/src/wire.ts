/** What goes over the wire, as far as the client reads it. Types only. */

import type { RowcastEvent } from "./types";

export interface RoomStart {
  readonly cursor: string;
  readonly resumed: boolean;
}

export interface ResyncFrame {
  readonly op: "resync";
  readonly room: string;
  readonly cursor: string;
  readonly reason: string;
}

export interface EventFrame extends RowcastEvent {
  readonly op: "event";
}

export interface CursorFrame {
  readonly op: "cursor";
  readonly room: string;
  readonly cursor: string;
}

export interface Welcome {
  readonly op: "welcome";
  readonly rooms: Record<string, RoomStart>;
  readonly heartbeat: number;
  readonly expires_at: string;
  readonly live: boolean;
  readonly now?: string;
}

export type Frame =
  | Welcome
  | EventFrame
  | ResyncFrame
  | CursorFrame
  | { readonly op: "status"; readonly live: boolean; readonly reason?: string }
  | { readonly op: "token_expiring"; readonly in: number }
  | { readonly op: "refreshed"; readonly expires_at: string; readonly rooms: Record<string, RoomStart>; readonly now?: string }
  | { readonly op: "mode"; readonly transport: "websocket" | "polling" }
  | { readonly op: "bye"; readonly code: number; readonly reconnect_in_ms: number }
  | { readonly op: "pong" };

/** One page of `GET /v1/events`. */
export interface Page {
  readonly rooms: Record<string, RoomStart>;
  readonly events: readonly EventFrame[];
  readonly resync: readonly ResyncFrame[];
  readonly live: boolean;
  readonly reason?: string;
  readonly more: boolean;
  readonly transport: "websocket" | "polling";
  readonly expires_at: string;
  readonly now?: string;
}

/** An error's body. */
export interface Refusal {
  readonly error?: string;
  readonly message?: string;
  readonly base_path?: string;
}
