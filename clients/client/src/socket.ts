/** One WebSocket, from its opening to its end. It knows frames, not rooms. */

import { guarded, type After } from "./platform";
import type { Platform } from "./types";
import type { Frame, Welcome } from "./wire";

/** How a socket ended by itself. */
export interface End {
  /** The close code; 1006 when there was none, 0 when the time was up. */
  readonly code: number;
  /** When the server wants to see the client again, in milliseconds. */
  readonly delay?: number;
  /** Whether the handshake succeeded. */
  readonly opened: boolean;
}

export interface Socket {
  send(frame: object): void;
  /** Ends it; nothing is heard of it afterwards. */
  close(): void;
}

export function openSocket(env: {
  readonly p: Platform;
  readonly after: After;
  readonly url: string;
  readonly timeout: number;
  /** The first frame to send. */
  readonly auth: () => object;
  readonly welcomed: (welcome: Welcome) => void;
  readonly frame: (frame: Frame) => void;
  readonly ended: (end: End) => void;
}): Socket {
  const raw = new env.p.WebSocket!(env.url, ["rowcast.v1"]);
  let opened = false;

  const close = (): void => {
    cancel();
    raw.onopen = raw.onmessage = raw.onclose = null;
    // An error event after this is nobody's; without a listener some platforms throw it.
    raw.onerror = () => {};
    guarded(() => raw.close());
  };
  const end = (code: number, delay?: number): void => {
    close();
    env.ended(delay === undefined ? { code, opened } : { code, delay, opened });
  };
  // It covers the handshake and the welcome: a server may accept and never answer.
  const cancel = env.after(env.timeout, () => end(0));
  const send = (frame: object): void => {
    if (raw.readyState === 1) raw.send(JSON.stringify(frame));
  };

  raw.onopen = () => {
    opened = true;
    send(env.auth());
  };
  raw.onmessage = ({ data }: MessageEvent<unknown>) => {
    let frame: Frame;
    try {
      frame = JSON.parse(data as string) as Frame;
      if (!frame.op) return;
    } catch {
      return end(1007);
    }
    if (frame.op === "bye") return end(frame.code, frame.reconnect_in_ms);
    if (frame.op === "welcome") {
      cancel();
      env.welcomed(frame);
    } else env.frame(frame);
  };
  raw.onclose = ({ code }) => end(code);
  raw.onerror = () => {};
  return { send, close };
}
