import { expect, it } from "vitest";
import { connectionLine } from "./connectionLine";

it("a connection says how it is made, and what holds it up", () => {
  expect(connectionLine({ state: "INITIALIZING", transport: null, reason: "connecting" }, null)).toBe("Connecting");
  expect(connectionLine({ state: "CONNECTED", transport: "websocket", reason: "" }, null)).toBe("Connected by WebSocket");
  expect(connectionLine({ state: "CONNECTED", transport: "websocket", reason: "listener" }, null)).toBe("Connected, but behind: listener");
});

it("what comes next is counted down where it is known", () => {
  expect(connectionLine({ state: "RECONNECTING", transport: null, reason: "network" }, 2)).toBe("Connecting again in 2 s");
  expect(connectionLine({ state: "RECONNECTING", transport: null, reason: "network" }, null)).toBe("Connecting again");
  expect(connectionLine({ state: "DEGRADED", transport: "polling", reason: "network" }, 3)).toBe("Polling, next in 3 s");
  expect(connectionLine({ state: "DEGRADED", transport: "polling", reason: "network" }, 0)).toBe("Polling, next now");
  expect(connectionLine({ state: "DEGRADED", transport: null, reason: "offline" }, null)).toBe("Not connected");
});
