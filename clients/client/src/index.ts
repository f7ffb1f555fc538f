/** `@rowcast/client`: the main entry. */

import type { EventMap, RowcastClient, RowcastOptions } from "./types";

export type * from "./types";

/** Makes a client; it connects when it is started. */
export function createClient<Events extends EventMap = EventMap>(options: RowcastOptions): RowcastClient<Events> {
  throw new Error(`not built yet: ${options.url}`);
}
