/** What `rowcast dev` serves for this page. One function a request; nothing is kept here. */

import type { Booking, BookingStatus } from "./board/board";

export interface Edge {
  readonly name: string;
  readonly up: boolean;
  readonly connections: number;
}

export interface Listener {
  readonly name: string;
  readonly up: boolean;
  readonly leader: boolean;
  readonly paused: boolean;
}

/** How what is behind the page stands. */
export interface System {
  readonly merchants: readonly string[];
  readonly edges: readonly Edge[];
  readonly listeners: readonly Listener[];
  readonly websockets: "open" | "blocked";
  readonly switch: "on" | "off";
  readonly redis: { readonly up: boolean };
}

export type BreakName =
  | "kill-edge"
  | "pause-listeners"
  | "resume-listeners"
  | "restart-redis"
  | "block-websockets"
  | "allow-websockets"
  | "switch-off"
  | "switch-on";

export interface Token {
  readonly token: string;
  readonly expires_at: string;
}

/** An answer that is not the one hoped for; `status` 0 means that there was none. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export function fetchSystem(signal: AbortSignal): Promise<System> {
  return request("/demo/state", { signal });
}

export function fetchToken(merchant: string, ttl: number, signal?: AbortSignal): Promise<Token> {
  return request("/demo/token", { method: "POST", body: JSON.stringify({ merchant, ttl }), ...(signal && { signal }) });
}

export function fetchBookings(merchant: string, token: string, signal: AbortSignal): Promise<Booking[]> {
  const headers = { authorization: `Bearer ${token}` };
  return request(`/demo/bookings?merchant=${encodeURIComponent(merchant)}`, { headers, signal });
}

export function addBooking(merchant: string): Promise<Booking> {
  return request("/demo/bookings", { method: "POST", body: JSON.stringify({ merchant }) });
}

export function setStatus(id: number, status: BookingStatus): Promise<unknown> {
  return request(`/demo/bookings/${id}`, { method: "PATCH", body: JSON.stringify({ status }) });
}

export function deleteBooking(id: number): Promise<unknown> {
  return request(`/demo/bookings/${id}`, { method: "DELETE" });
}

export function breakIt(name: BreakName): Promise<unknown> {
  return request(`/demo/break/${name}`, { method: "POST" });
}

async function request<Answer>(path: string, init: RequestInit): Promise<Answer> {
  const headers = { ...(init.body === undefined ? {} : { "content-type": "application/json" }), ...init.headers };
  const response = await fetch(path, { cache: "no-store", ...init, headers });
  const text = await response.text();
  if (!response.ok) throw new ApiError(response.status, reason(text) ?? `${path} answered ${response.status}`);
  return (text === "" ? null : JSON.parse(text)) as Answer;
}

/** The words of an error answer, where it is one of ours. */
function reason(text: string): string | null {
  try {
    const answer: unknown = JSON.parse(text);
    if (typeof answer === "object" && answer !== null && "message" in answer && typeof answer.message === "string") return answer.message;
  } catch {
    // A balancer's own page: its status says enough.
  }
  return null;
}
