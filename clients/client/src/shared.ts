/** `@rowcast/client/shared`: one socket for several tabs. */

export type * from "./types";
