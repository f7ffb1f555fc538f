// @vitest-environment jsdom
/** An application's own hook around the stock client, as it is, against the running system. */

import { cleanup, configure, renderHook, waitFor } from "@testing-library/react";
import { StrictMode } from "react";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Link } from "../src/link";
import { NAMESPACE, system } from "../src/system";
import { TOKEN, useRobustWebSocket, type ConnectionState, type RobustOptions } from "./useRobustWebSocket";

const here = system();
configure({ asyncUtilTimeout: 20_000 });
afterEach(cleanup);
beforeEach(() => localStorage.clear());

interface Page {
  readonly states: ConnectionState[];
  /** What an application shows: what it fetched, and what events added to it. */
  readonly known: Set<string>;
  /** What came as an event, as often as it came. */
  readonly heard: string[];
  readonly count: { refreshes: number; fetches: number };
  rerender(): void;
  unmount(): void;
}

/** Renders the hook with options that are new objects at each render. */
function open(room: string, more: Partial<RobustOptions> = {}, url = here.url()): Page {
  const states: ConnectionState[] = [];
  const known = new Set<string>();
  const heard: string[] = [];
  const count = { refreshes: 0, fetches: 0 };
  const options = (): RobustOptions => ({
    url: `${url}${NAMESPACE}`,
    async refreshToken() {
      count.refreshes += 1;
      return here.token(room);
    },
    fetchAnew() {
      count.fetches += 1;
      void here.notes(room).then((notes) => notes.forEach((note) => known.add(note)));
    },
    onEvent(type, payload) {
      if (type !== "note.created") return;
      heard.push(String(payload["note"]));
      known.add(String(payload["note"]));
    },
    ...more,
  });
  const rendered = renderHook(
    () => {
      const state = useRobustWebSocket(options());
      if (states.at(-1) !== state) states.push(state);
    },
    { wrapper: StrictMode },
  );
  return { states, known, heard, count, rerender: () => rendered.rerender(), unmount: rendered.unmount };
}

async function reaches(page: Page, state: ConnectionState): Promise<void> {
  await waitFor(() => expect(page.states.at(-1)).toBe(state));
}

it("connects with the token of localStorage, and renders do not connect again", async () => {
  const room = here.room("hook");
  localStorage.setItem(TOKEN, here.token(room));
  const link = await Link.to(here.url());
  const page = open(room, {}, link.url);
  await reaches(page, "CONNECTED");
  const asked = link.asked.length;
  for (let n = 0; n < 5; n += 1) page.rerender();
  await here.insert(room, "one");
  await waitFor(() => expect(page.heard).toEqual(["one"]));
  expect(page.states).toEqual(["INITIALIZING", "CONNECTED"]);
  expect(link.asked).toHaveLength(asked);
  expect(page.count.refreshes).toBe(0);
  page.unmount();
  await waitFor(async () => expect((await here.carried(0)) + (await here.carried(1))).toBe(0));
});

it("without a token it waits, and asks for nothing", async () => {
  const link = await Link.to(here.url());
  const page = open(here.room("nobody"), {}, link.url);
  for (let n = 0; n < 5; n += 1) page.rerender();
  expect(page.states).toEqual(["INITIALIZING"]);
  expect(link.asked).toEqual([]);
});

it("edges that are killed: it reconnects, and has each row once", async () => {
  const room = here.room("hook-killed");
  localStorage.setItem(TOKEN, here.token(room));
  const page = open(room);
  await reaches(page, "CONNECTED");
  const writer = here.write(room);
  await writer.more(20);
  await here.killEdges();
  await waitFor(() => expect(page.states).toContain("RECONNECTING"));
  await reaches(page, "CONNECTED");
  await writer.more(20);
  const sent = await writer.stop();
  await waitFor(() => expect(page.heard.at(-1)).toBe(sent.at(-1)));
  expect(page.heard).toEqual(sent);
  expect(page.count.refreshes).toBe(0);
  await here.whole();
});

it("a token in localStorage that is over is refreshed once, and kept", async () => {
  const room = here.room("hook-over");
  const old = here.token(room, -60);
  localStorage.setItem(TOKEN, old);
  const page = open(room);
  await reaches(page, "CONNECTED");
  expect(page.states).toEqual(["INITIALIZING", "CONNECTED"]);
  expect(page.count.refreshes).toBe(1);
  expect(localStorage.getItem(TOKEN)).not.toBe(old);
});

it("a token that ends while it is connected is refreshed, and no row is missing", async () => {
  const room = here.room("hook-ends");
  localStorage.setItem(TOKEN, here.token(room, 2));
  const page = open(room);
  await reaches(page, "CONNECTED");
  const writer = here.write(room);
  await waitFor(() => expect(page.count.refreshes).toBe(1));
  await reaches(page, "CONNECTED");
  await writer.more(20);
  const sent = await writer.stop();
  await waitFor(() => expect(page.heard.at(-1)).toBe(sent.at(-1)));
  expect(page.heard).toEqual(sent);
  expect(page.count.refreshes).toBe(1);
});

it("sockets that are switched off: it polls, and comes back when they are on", async () => {
  const room = here.room("hook-switched");
  localStorage.setItem(TOKEN, here.token(room));
  const page = open(room, { pollEvery: 300 });
  await reaches(page, "CONNECTED");
  await here.command("switch", "websocket", "off");
  try {
    await reaches(page, "DEGRADED");
    await here.insert(room, "polled");
    await waitFor(() => expect(page.known).toContain("polled"));
  } finally {
    await here.command("switch", "websocket", "on");
  }
  await reaches(page, "CONNECTED");
  expect(page.states).toEqual(["INITIALIZING", "CONNECTED", "RECONNECTING", "DEGRADED", "CONNECTED"]);
  await here.insert(room, "live");
  await waitFor(() => expect(page.heard.at(-1)).toBe("live"));
  expect(page.count.refreshes).toBe(0);
});

it("no edge that can be reached: the circuit breaker polls, and closes again", async () => {
  const room = here.room("hook-away");
  localStorage.setItem(TOKEN, here.token(room));
  const link = await Link.to(here.url());
  const page = open(room, { pollEvery: 300 }, link.url);
  await reaches(page, "CONNECTED");
  link.down();
  await reaches(page, "DEGRADED");
  await here.insert(room, "polled");
  await waitFor(() => expect(page.known).toContain("polled"));
  link.up();
  await reaches(page, "CONNECTED");
  expect(page.states).toEqual(["INITIALIZING", "CONNECTED", "RECONNECTING", "DEGRADED", "CONNECTED"]);
});

it("a socket that is dead without knowing it is found by the heartbeat", async () => {
  const room = here.room("hook-zombie");
  localStorage.setItem(TOKEN, here.token(room));
  const link = await Link.to(here.url());
  const page = open(room, { heartbeat: 300 }, link.url);
  await reaches(page, "CONNECTED");
  link.stall();
  await here.insert(room, "unheard");
  await waitFor(() => expect(page.states).toContain("RECONNECTING"));
  await reaches(page, "CONNECTED");
  await waitFor(() => expect(page.heard).toEqual(["unheard"]));
});
