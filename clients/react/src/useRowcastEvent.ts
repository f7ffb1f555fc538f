/** A component's handler of events. Events go past React: none renders anything unless the handler sets state. */

import { useEffect, useInsertionEffect, useRef } from "react";
import type { EventsMatching, RowcastEvent } from "@rowcast/client";
import { useStore, type RegisteredEvents } from "./store";

/** All types that a pattern matches: `booking.*`, or `*`. The handler may be another at each render: the latest is called. */
export function useRowcastEvent<Pattern extends `${string}*`>(
  pattern: Pattern,
  handler: (event: EventsMatching<RegisteredEvents, Pattern>) => void,
): void;
/** One type of events. The handler may be another at each render: the latest is called. */
export function useRowcastEvent<Type extends keyof RegisteredEvents & string>(
  type: Type,
  handler: (event: RowcastEvent<Type, RegisteredEvents[Type]>) => void,
): void;
export function useRowcastEvent(pattern: string, handler: (event: never) => void): void {
  const { client } = useStore("useRowcastEvent");
  const latest = useRef(handler);
  // Insertion effects run before any other effect can cause an event.
  useInsertionEffect(() => {
    latest.current = handler;
  });
  useEffect(() => client.on(pattern as "*", (event) => latest.current(event as never)), [client, pattern]);
}
