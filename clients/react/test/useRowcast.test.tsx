import { act, render, screen } from "@testing-library/react";
import { Profiler, type ReactElement } from "react";
import { expect, test } from "vitest";
import { ConnectionStatus, RowcastProvider, useRowcast, useRowcastEvent, type RowcastState } from "../src/index";
import { DELAYED, event, FakeClient, LIVE, RECONNECTING } from "./support";

function mount(client: FakeClient, child: ReactElement): () => number {
  let commits = 0;
  render(
    <RowcastProvider client={client}>
      <Profiler id="child" onRender={() => commits++}>
        {child}
      </Profiler>
    </RowcastProvider>,
  );
  const before = commits;
  return () => commits - before;
}

test("a burst of 1,000 events renders no component that reads the status", () => {
  const client = new FakeClient();
  let handled = 0;
  function Board() {
    useRowcast();
    useRowcastEvent("*", () => handled++);
    return <ConnectionStatus />;
  }
  const renders = mount(client, <Board />);
  act(() => {
    for (let offset = 1; offset <= 1_000; offset++) client.emit(event(offset));
  });
  expect(handled).toBe(1_000);
  expect(renders()).toBe(0);
});

test("a change of the status renders once", () => {
  const client = new FakeClient();
  const states: string[] = [];
  function Reader() {
    states.push(useRowcast().status.state);
    return null;
  }
  const renders = mount(client, <Reader />);
  states.length = 0;
  act(() => client.show(LIVE));
  expect(states).toEqual(["CONNECTED"]);
  expect(renders()).toBe(1);
});

test("with a selector a component renders only when what it reads changes", () => {
  const client = new FakeClient();
  function Reader() {
    return <p>{useRowcast(({ status }) => status.light)}</p>;
  }
  const renders = mount(client, <Reader />);
  act(() => client.show(RECONNECTING));
  act(() => client.show({ ...RECONNECTING, nextAttemptAt: 5 }));
  expect(renders()).toBe(0);
  act(() => client.show(LIVE));
  expect(renders()).toBe(1);
  expect(screen.getByText("live")).toBeTruthy();
});

test("a selector may make a new object each time: it renders when something in it changes", () => {
  const client = new FakeClient();
  function Reader() {
    const { light, transport } = useRowcast(({ status: { light, transport } }) => ({ light, transport }));
    return <p>{`${light} ${transport}`}</p>;
  }
  const renders = mount(client, <Reader />);
  act(() => client.show(LIVE));
  act(() => client.show({ ...LIVE, since: 7 }));
  expect(renders()).toBe(1);
  act(() => client.show(DELAYED));
  expect(renders()).toBe(2);
  expect(screen.getByText("delayed polling")).toBeTruthy();
});

test("a selector that closes over props follows them without a change of the status", () => {
  const client = new FakeClient();
  client.show(DELAYED);
  function Reader({ field }: { readonly field: "reason" | "light" }) {
    return <p>{useRowcast(({ status }) => status[field])}</p>;
  }
  const app = (field: "reason" | "light") => (
    <RowcastProvider client={client}>
      <Reader field={field} />
    </RowcastProvider>
  );
  const { rerender } = render(app("light"));
  expect(screen.getByText("delayed")).toBeTruthy();
  rerender(app("reason"));
  expect(screen.getByText("redis")).toBeTruthy();
});

test("reconnect is one function for the client's whole life", () => {
  const client = new FakeClient();
  const seen = new Set<RowcastState["reconnect"]>();
  function Reader() {
    const { reconnect } = useRowcast();
    seen.add(reconnect);
    return null;
  }
  mount(client, <Reader />);
  for (const status of [LIVE, DELAYED, RECONNECTING]) act(() => client.show(status));
  expect(seen.size).toBe(1);
  for (const reconnect of seen) reconnect();
  expect(client.calls).toContain("reconnect");
});

test("another client takes the place of the first, and nothing listens to that any more", () => {
  const [first, second] = [new FakeClient(), new FakeClient()];
  second.show(DELAYED);
  function Reader() {
    useRowcastEvent("*", () => {});
    return <p>{useRowcast().status.light}</p>;
  }
  const app = (client: FakeClient) => (
    <RowcastProvider client={client}>
      <Reader />
    </RowcastProvider>
  );
  const { rerender, unmount } = render(app(first));
  rerender(app(second));
  expect(screen.getByText("delayed")).toBeTruthy();
  expect(first.listeners.size + first.handlers.size).toBe(0);
  unmount();
  expect(second.listeners.size + second.handlers.size).toBe(0);
});
