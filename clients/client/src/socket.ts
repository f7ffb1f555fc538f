/** One WebSocket, from its opening to its end. It knows frames, not rooms. */

import type { After } from "./platform";
import type { Frame, Welcome } from "./wire";

export interface Socket {
  readonly send: (frame: object) => void;
  /** Ends it; nothing is heard of it afterwards. */
  readonly close: () => void;
}

/**
 * How a socket ended by itself: the close code (1006 when there was none, 0 when the time was up), whether the
 * handshake had succeeded, and when the server wants to see the client again, in milliseconds.
 */
export type Ended = (code: number, opened: boolean, delay?: number) => void;

/** Opens it; `timeout` covers the handshake and the welcome, `auth` is the first frame to send. */
export function openSocket(
  WebSocket: typeof globalThis.WebSocket,
  url: string,
  after: After,
  timeout: number,
  auth: () => object,
  welcomed: (welcome: Welcome) => void,
  took: (frame: Frame) => void,
  ended: Ended,
): Socket {
  const raw = new WebSocket(url, ["rowcast.v1"]);
  let opened = false;

  const close = (): void => {
    cancel();
    raw.onmessage = raw.onclose = null;
    raw.close();
  };
  const end = (code: number, delay?: number): void => {
    close();
    ended(code, opened, delay);
  };
  const cancel = after(timeout, () => end(0));
  const send = (frame: object): void => {
    if (raw.readyState === 1) raw.send(JSON.stringify(frame));
  };

  raw.onopen = () => {
    opened = true;
    send(auth());
  };
  raw.onmessage = ({ data }: MessageEvent<string>) => {
    let frame: Frame;
    try {
      frame = JSON.parse(data) as Frame;
      if (!frame.op) return;
    } catch {
      return end(1007);
    }
    if (frame.op === "bye") return end(frame.code, frame.reconnect_in_ms);
    if (frame.op === "welcome") {
      cancel();
      welcomed(frame);
    } else took(frame);
  };
  raw.onclose = ({ code }) => end(code);
  // Its close follows; without a listener some platforms throw.
  raw.onerror = () => {};
  return { send, close };
}
