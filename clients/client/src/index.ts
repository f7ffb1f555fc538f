/** `@rowcast/client`: the main entry. */

export { createClient } from "./client";
export type * from "./types";
