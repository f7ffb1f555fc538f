import { expect, it } from "vitest";
import type { System } from "../api";
import { changes, leader, paused } from "./changes";

const WELL: System = {
  merchants: ["salon-anna", "barber-ben"],
  edges: [
    { name: "edge-1", up: true, connections: 3 },
    { name: "edge-2", up: true, connections: 1 },
  ],
  listeners: [
    { name: "listener-1", up: true, leader: true, paused: false },
    { name: "listener-2", up: true, leader: false, paused: false },
  ],
  websockets: "open",
  switch: "on",
  redis: { up: true },
};

it("nothing is said of what stays, nor of connections that come and go", () => {
  const busier = { ...WELL, edges: WELL.edges.map((edge) => ({ ...edge, connections: 9 })) };
  expect(changes(WELL, busier)).toEqual([]);
});

it("each change is said once, there and back", () => {
  const broken: System = {
    ...WELL,
    edges: [{ name: "edge-1", up: false, connections: 0 }, ...WELL.edges.slice(1)],
    websockets: "blocked",
    switch: "off",
    redis: { up: false },
  };
  expect(changes(WELL, broken)).toEqual([
    "edge-1 is gone",
    "Redis is gone",
    "The balancer refuses WebSockets",
    "WebSockets are switched off for everyone",
  ]);
  expect(changes(broken, WELL)).toHaveLength(4);
});

it("paused listeners lead nothing", () => {
  const stopped = { ...WELL, listeners: WELL.listeners.map((listener) => ({ ...listener, paused: true })) };
  expect(paused(stopped)).toBe(true);
  expect(leader(stopped)).toBeNull();
  expect(changes(WELL, stopped)).toEqual(["The listeners are paused"]);
  expect(changes(stopped, WELL)).toEqual(["The listeners go on", "listener-1 leads"]);
});

it("one that takes over is named", () => {
  const taken = {
    ...WELL,
    listeners: [
      { name: "listener-1", up: false, leader: false, paused: false },
      { name: "listener-2", up: true, leader: true, paused: false },
    ],
  };
  expect(changes(WELL, taken)).toEqual(["listener-2 leads"]);
});
