/** A board's state, and how it comes by its snapshot. */

import { useReducer } from "react";
import type { Resync } from "@rowcast/client";
import { ApiError, fetchBookings } from "../api";
import type { Tokens } from "../tokens";
import { applyEvent, applySnapshot, EMPTY_BOARD, forget, type Board, type BoardEvent, type Booking } from "./board";

export type BoardAction =
  | { readonly kind: "event"; readonly event: BoardEvent }
  | { readonly kind: "snapshot"; readonly bookings: readonly Booking[] }
  | { readonly kind: "forget"; readonly id: number };

export function useBoard() {
  return useReducer(reduce, EMPTY_BOARD);
}

function reduce(board: Board, action: BoardAction): Board {
  switch (action.kind) {
    case "event":
      return applyEvent(board, action.event);
    case "snapshot":
      return applySnapshot(board, action.bookings);
    case "forget":
      return forget(board, action.id);
  }
}

/** The bookings as they are now; with another token once, where the client's had ended meanwhile. */
export async function fetchSnapshot(merchant: string, tokens: Tokens, { signal }: Pick<Resync, "signal">): Promise<Booking[]> {
  const token = await tokens.forRequest(signal);
  try {
    return await fetchBookings(merchant, token, signal);
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 401)) throw error;
    return fetchBookings(merchant, await tokens.forRequest(signal, token), signal);
  }
}
