/** Who wants which events. */

import { guarded } from "./platform";
import type { RowcastEvent } from "./types";

type Handler = (event: RowcastEvent) => void;

/** How to ask for events, and how to hand one on. */
export function emitter(): [on: (pattern: string, handler: Handler) => () => void, emit: Handler] {
  const entries = new Set<readonly [string, Handler]>();
  return [
    (pattern, handler) => {
      const entry = [pattern, handler] as const;
      entries.add(entry);
      return () => void entries.delete(entry);
    },
    (event) => {
      for (const [pattern, handler] of [...entries])
        if (pattern.endsWith("*") ? event.type.startsWith(pattern.slice(0, -1)) : pattern === event.type)
          guarded(() => handler(event));
    },
  ];
}
