import { act, render, screen, waitFor } from "@testing-library/react";
import { StrictMode, useState } from "react";
import { expect, test, vi } from "vitest";
import { ConnectionStatus, RowcastProvider, useRowcast, useRowcastEvent } from "../src/index";
import { cursorAt, event, FakeClient, ROOM, Surroundings } from "./support";

function Light() {
  return <output>{useRowcast(({ status }) => status.light)}</output>;
}

async function live(): Promise<void> {
  await waitFor(() => expect(screen.getByRole("status").textContent).toBe("live"));
}

test("StrictMode's second mounting opens no second socket", async () => {
  const around = new Surroundings();
  render(
    <StrictMode>
      <RowcastProvider options={around.options()}>
        <Light />
      </RowcastProvider>
    </StrictMode>,
  );
  await live();
  expect(around.sockets).toHaveLength(1);
  expect(around.auths).toHaveLength(1);
});

test("in StrictMode each event is handed on once, and a reconnection resumes behind it", async () => {
  const around = new Surroundings();
  const seen: string[] = [];
  function Events() {
    useRowcastEvent("*", ({ id }) => seen.push(id));
    return null;
  }
  render(
    <StrictMode>
      <RowcastProvider options={around.options()}>
        <Events />
        <Light />
      </RowcastProvider>
    </StrictMode>,
  );
  await live();
  act(() => around.socket.give({ op: "event", ...event(1) }));
  expect(seen).toEqual(["1"]);
  act(() => around.socket.drop());
  await waitFor(() => expect(around.auths).toHaveLength(2));
  expect(around.auths[1]?.resume).toEqual({ [ROOM]: cursorAt(1) });
});

test("a client of the application's own is neither started nor stopped nor given options", async () => {
  const client = new FakeClient();
  const { unmount } = render(
    <RowcastProvider client={client}>
      <Light />
    </RowcastProvider>,
  );
  unmount();
  await Promise.resolve();
  expect(client.calls).toEqual([]);
  expect(client.listeners.size).toBe(0);
});

test("options written inline connect once, however often they are rendered, and their latest functions are called", async () => {
  const around = new Surroundings();
  const resyncs: string[] = [];
  const tokens: string[] = [];
  let next = (): void => {};
  function App() {
    const [version, setVersion] = useState(0);
    next = () => setVersion((now) => now + 1);
    const options = around.options({
      types: ["booking.*"],
      onResync: ({ reason }) => void resyncs.push(`${version} ${reason}`),
      token: () => {
        tokens.push(String(version));
        return "token";
      },
    });
    return (
      <RowcastProvider options={options}>
        <Light />
      </RowcastProvider>
    );
  }
  render(<App />);
  await live();
  for (let render = 0; render < 20; render++) act(next);
  expect(around.sockets).toHaveLength(1);

  act(() => around.socket.give({ op: "resync", room: ROOM, cursor: cursorAt(9), reason: "trimmed" }));
  await waitFor(() => expect(resyncs).toEqual(["0 start", "20 trimmed"]));
  act(() => around.socket.drop());
  await waitFor(() => expect(around.auths).toHaveLength(2));
  expect(tokens).toEqual(["0", "20"]);
});

test("a client of another making is made, started and stopped like its own", async () => {
  const made: FakeClient[] = [];
  const create = (): FakeClient => {
    const client = new FakeClient();
    made.push(client);
    return client;
  };
  const options = new Surroundings().options();
  const app = () => <RowcastProvider options={options} create={() => create()} />;
  const { rerender, unmount } = render(app());
  rerender(app());
  unmount();
  await Promise.resolve();
  expect(made.map(({ calls }) => calls)).toEqual([["setOptions", "start", "stop"]]);
});

test("another url connects there, and closes the old socket", async () => {
  const around = new Surroundings();
  const app = (url: string) => (
    <RowcastProvider options={around.options({ url })}>
      <Light />
    </RowcastProvider>
  );
  const { rerender } = render(app("https://one.example"));
  await live();
  rerender(app("https://two.example/realtime"));
  await waitFor(() => expect(around.auths).toHaveLength(2));
  expect(around.socket.url).toBe("wss://two.example/realtime/ws");
});

test("unmounting leaves no socket, timer or listener", async () => {
  const around = new Surroundings();
  const { unmount } = render(
    <StrictMode>
      <RowcastProvider options={around.options()}>
        <ConnectionStatus />
      </RowcastProvider>
    </StrictMode>,
  );
  await waitFor(() => expect(screen.getByRole("status").textContent).toBe("Live"));
  expect(around.timers.size).toBeGreaterThan(0);
  expect(around.listeners).toBeGreaterThan(0);
  unmount();
  await Promise.resolve();
  expect(around.open()).toEqual([]);
  expect(around.timers.size).toBe(0);
  expect(around.listeners).toBe(0);
});

test("events that arrive with the welcome find the handlers of components that mounted with the provider", async () => {
  const around = new Surroundings();
  const seen: string[] = [];
  function Deep() {
    useRowcastEvent("booking.created", ({ id }) => seen.push(id));
    return null;
  }
  render(
    <RowcastProvider options={around.options()}>
      <Deep />
      <Light />
    </RowcastProvider>,
  );
  await waitFor(() => expect(around.auths).toHaveLength(1));
  act(() => around.socket.give({ op: "event", ...event(1) }));
  await waitFor(() => expect(seen).toEqual(["1"]));
});

test("what is used without a provider says so, and by its name", () => {
  // React tells the console and the window as well of what is expected here.
  const quiet = vi.spyOn(console, "error").mockImplementation(() => {});
  const expected = (thrown: ErrorEvent): void => thrown.preventDefault();
  window.addEventListener("error", expected);
  function Events() {
    useRowcastEvent("*", () => {});
    return null;
  }
  expect(() => render(<Light />)).toThrow("useRowcast needs a <RowcastProvider> above it");
  expect(() => render(<Events />)).toThrow("useRowcastEvent needs a <RowcastProvider> above it");
  expect(() => render(<ConnectionStatus />)).toThrow("<ConnectionStatus> needs a <RowcastProvider> above it");
  window.removeEventListener("error", expected);
  quiet.mockRestore();
});
