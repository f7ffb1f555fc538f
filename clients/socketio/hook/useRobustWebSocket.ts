/**
 * The hook that applications have around a stock client: nothing in it knows of Rowcast. A token from localStorage that is refreshed
 * when it is refused, a heartbeat against sockets that are dead without knowing it, and a circuit breaker that polls instead.
 */

import { useEffect, useRef, useState } from "react";
import { io } from "socket.io-client";

export type ConnectionState = "INITIALIZING" | "CONNECTED" | "RECONNECTING" | "DEGRADED";

export interface RobustOptions {
  readonly url: string;
  /** A new token, from the application's own server. */
  readonly refreshToken: () => Promise<string>;
  /** What was committed since the last time, from the application's own server: while there is no socket, and when it missed something. */
  readonly fetchAnew: () => void;
  readonly onEvent: (type: string, payload: Readonly<Record<string, unknown>>) => void;
  /** In milliseconds: between two heartbeats, and for the answer to one. */
  readonly heartbeat?: number;
  /** In milliseconds: between two polls, and two attempts to get back from polling. */
  readonly pollEvery?: number;
}

/** Where applications keep it. */
export const TOKEN = "access_token";

/** Attempts after which it polls. */
const MOST_ATTEMPTS = 5;

export function useRobustWebSocket(options: RobustOptions): ConnectionState {
  const latest = useRef(options);
  latest.current = options;
  const [state, setState] = useState<ConnectionState>("INITIALIZING");

  useEffect(() => {
    const token = localStorage.getItem(TOKEN);
    if (token === null) return;
    const { url, heartbeat = 30_000, pollEvery = 60_000 } = latest.current;
    const auth = { token };
    const socket = io(url, { auth, forceNew: true, transports: ["websocket", "polling"], reconnectionDelay: 50, reconnectionDelayMax: 500 });
    let failures = 0;
    let retry: ReturnType<typeof setTimeout> | undefined;
    let polling: ReturnType<typeof setInterval> | undefined;

    const degrade = (): void => {
      if (polling !== undefined) return;
      socket.disconnect();
      setState("DEGRADED");
      const poll = (): void => {
        latest.current.fetchAnew();
        failures = MOST_ATTEMPTS - 1;
        socket.connect();
      };
      polling = setInterval(poll, pollEvery);
      latest.current.fetchAnew();
    };
    const refresh = async (): Promise<void> => {
      auth.token = await latest.current.refreshToken();
      localStorage.setItem(TOKEN, auth.token);
      socket.connect();
    };
    const failed = (): void => {
      failures += 1;
      if (failures >= MOST_ATTEMPTS) {
        if (polling === undefined) degrade();
        else socket.disconnect();
        return;
      }
      if (polling === undefined) setState("RECONNECTING");
      // A refused client does not try again by itself.
      if (!socket.active) retry = setTimeout(() => socket.connect(), 50 * 2 ** failures);
    };

    socket.on("connect", () => {
      failures = 0;
      clearInterval(polling);
      polling = undefined;
      setState("CONNECTED");
    });
    socket.on("disconnect", (reason) => {
      if (reason === "io client disconnect") return;
      setState("RECONNECTING");
      if (reason === "io server disconnect") socket.connect();
    });
    socket.on("connect_error", (error) => (error.message.includes("jwt") ? void refresh() : failed()));
    socket.on("resync", () => latest.current.fetchAnew());
    socket.onAny((type: string, payload: Readonly<Record<string, unknown>>) => latest.current.onEvent(type, payload));

    const beat = setInterval(() => {
      if (!socket.connected) return;
      socket.timeout(heartbeat).emit("ping", (error: Error | null) => {
        if (error !== null && socket.connected) socket.io.engine.close();
      });
    }, heartbeat);

    return () => {
      clearInterval(beat);
      clearInterval(polling);
      clearTimeout(retry);
      socket.off();
      socket.disconnect();
    };
  }, []);

  return state;
}
