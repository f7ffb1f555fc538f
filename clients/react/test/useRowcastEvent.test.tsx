import { act, render } from "@testing-library/react";
import { useState } from "react";
import { expect, test } from "vitest";
import { RowcastProvider, useRowcastEvent } from "../src/index";
import { event, FakeClient } from "./support";

interface Shown {
  readonly pattern: string;
  readonly label: string;
}

/** Mounts a component whose pattern and closure can be changed. */
function mount(first: Shown) {
  const client = new FakeClient();
  const seen: string[] = [];
  let show: (next: Shown) => void = () => {};
  function Reader() {
    const [{ pattern, label }, setShown] = useState(first);
    show = setShown;
    useRowcastEvent(pattern, ({ id }) => seen.push(`${label} ${id}`));
    return null;
  }
  const { unmount } = render(
    <RowcastProvider client={client}>
      <Reader />
    </RowcastProvider>,
  );
  return { client, seen, show: (next: Shown) => act(() => show(next)), unmount };
}

test("the latest handler is called, though it never subscribed again", () => {
  const { client, seen, show } = mount({ pattern: "booking.*", label: "first" });
  client.emit(event(1));
  show({ pattern: "booking.*", label: "second" });
  client.emit(event(2));
  expect(seen).toEqual(["first 1", "second 2"]);
  expect(client.calls).toEqual(["on booking.*"]);
});

test("another type is subscribed to in place of the last one", () => {
  const { client, seen, show } = mount({ pattern: "booking.created", label: "a" });
  show({ pattern: "booking.deleted", label: "b" });
  client.emit(event(1, "booking.created"));
  client.emit(event(2, "booking.deleted"));
  expect(seen).toEqual(["b 2"]);
  expect(client.handlers.size).toBe(1);
});

test("after unmounting no handler is called", () => {
  const { client, seen, unmount } = mount({ pattern: "*", label: "a" });
  unmount();
  client.emit(event(1));
  expect(seen).toEqual([]);
  expect(client.handlers.size).toBe(0);
});
