/** Who wants which events. */

import { guarded } from "./platform";
import type { RowcastEvent } from "./types";

type Handler = (event: RowcastEvent) => void;

export interface Emitter {
  on(pattern: string, handler: Handler): () => void;
  emit(event: RowcastEvent): void;
}

export function emitter(): Emitter {
  const entries = new Set<readonly [string, Handler]>();
  return {
    on(pattern, handler) {
      const entry = [pattern, handler] as const;
      entries.add(entry);
      return () => void entries.delete(entry);
    },
    emit(event) {
      for (const [pattern, handler] of [...entries])
        if (pattern.endsWith("*") ? event.type.startsWith(pattern.slice(0, -1)) : pattern === event.type)
          guarded(() => handler(event));
    },
  };
}
