import { expect, it } from "vitest";
import { transition, type Followed } from "./lines";

const LIVE: Followed = { state: "CONNECTED", light: "live", reason: "", transport: "websocket" };

it("a status that stays is worth no line", () => {
  expect(transition(LIVE, { ...LIVE })).toBeNull();
});

it("the first attempt is no reconnection", () => {
  expect(transition(null, { state: "INITIALIZING", light: "reconnecting", reason: "connecting", transport: null })).toEqual({ text: "Connecting", tone: "plain" });
});

it("the way and the reason are said with the light", () => {
  expect(transition(null, LIVE)).toEqual({ text: "Live, by WebSocket", tone: "good" });
  expect(transition(LIVE, { ...LIVE, light: "delayed", reason: "listener" })).toEqual({
    text: "Delayed, by WebSocket, listener",
    tone: "bad",
  });
  expect(transition(LIVE, { state: "RECONNECTING", light: "reconnecting", reason: "network", transport: null })).toEqual({
    text: "Reconnecting, network",
    tone: "warn",
  });
  expect(transition(null, { state: "DEGRADED", light: "delayed", reason: "network", transport: "polling" })?.text).toBe(
    "Delayed, by polling, network",
  );
});
