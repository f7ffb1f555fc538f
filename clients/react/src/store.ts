/** What hooks see of a client, and the context that carries it to them. Nothing is started or stopped here. */

import { createContext, useContext } from "react";
import type { EventMap, RowcastClient, Status } from "@rowcast/client";

/**
 * Tells the hooks the application's events, once for all of them:
 *
 *     declare module "@rowcast/react" {
 *       interface Register { events: Events }
 *     }
 */
export interface Register {}

/** The events of `Register`; any type with any data where nothing is registered. */
export type RegisteredEvents = Register extends { events: infer Events extends object } ? Events : EventMap;

/** What `useRowcast` gives: the same object until the status changes. */
export interface RowcastState {
  readonly status: Status;
  /** Tries at once, whatever the state. The same function for a client's whole life. */
  readonly reconnect: () => void;
  readonly client: RowcastClient<RegisteredEvents>;
}

/** A client as `useSyncExternalStore` wants it. */
export interface Store {
  readonly client: RowcastClient<RegisteredEvents>;
  readonly subscribe: (listener: () => void) => () => void;
  readonly state: () => RowcastState;
  /** What a server renders, and a page while it is hydrated. */
  readonly initial: () => RowcastState;
}

const INITIAL: Status = {
  state: "INITIALIZING",
  light: "reconnecting",
  reason: "connecting",
  since: 0,
  transport: null,
  nextAttemptAt: null,
  error: null,
};

export function storeOf(client: RowcastClient<RegisteredEvents>): Store {
  const reconnect = (): void => client.reconnect();
  const initial: RowcastState = { status: INITIAL, reconnect, client };
  let last = initial;
  return {
    client,
    subscribe: (listener) => client.subscribe(listener),
    state() {
      const status = client.getStatus();
      if (status !== last.status) last = { status, reconnect, client };
      return last;
    },
    initial: () => initial,
  };
}

export const StoreContext = createContext<Store | null>(null);

/** The nearest provider's store; without one it says who asked. */
export function useStore(user: string): Store {
  const store = useContext(StoreContext);
  if (store === null) throw new Error(`${user} needs a <RowcastProvider> above it`);
  return store;
}
