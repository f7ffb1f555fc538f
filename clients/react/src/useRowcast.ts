/** The connection's status, for a component that renders when what it reads of it changes. */

import { useRef, useSyncExternalStore } from "react";
import { useStore, type RowcastState } from "./store";

interface Selection {
  readonly state: RowcastState;
  readonly selector: (state: RowcastState) => unknown;
  readonly selected: unknown;
}

/** `{ status, reconnect, client }`; renders at each change of the status, and at no event. */
export function useRowcast(): RowcastState;
/** What `selector` picks, such as `({ status }) => status.light`; renders when it differs, compared one level deep. */
export function useRowcast<Selected>(selector: (state: RowcastState) => Selected): Selected;
export function useRowcast(selector?: (state: RowcastState) => unknown): unknown {
  const store = useStore("useRowcast");
  const held = useRef<Selection | null>(null);

  const select = (state: RowcastState): unknown => {
    if (!selector) return state;
    const last = held.current;
    if (last?.state === state && last.selector === selector) return last.selected;
    const next = selector(state);
    // An equal selection is the same one: React compares by identity.
    const selected = last && alike(last.selected, next) ? last.selected : next;
    held.current = { state, selector, selected };
    return selected;
  };

  return useSyncExternalStore(
    store.subscribe,
    () => select(store.state()),
    () => select(store.initial()),
  );
}

function alike(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || !a || !b) return false;
  const [left, right] = [Object.entries(a), new Map(Object.entries(b))];
  return left.length === right.size && left.every(([key, value]) => right.has(key) && Object.is(value, right.get(key)));
}
