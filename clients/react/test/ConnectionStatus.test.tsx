import { act, fireEvent, render, screen } from "@testing-library/react";
import axe from "axe-core";
import { expect, test } from "vitest";
import type { Status } from "@rowcast/client";
import { ConnectionStatus, RowcastProvider, type ConnectionStatusProps } from "../src/index";
import { DELAYED, FakeClient, LIVE, RECONNECTING } from "./support";

function mount(status: Status, props: ConnectionStatusProps = {}) {
  const client = new FakeClient();
  client.show(status);
  const { container } = render(
    <RowcastProvider client={client}>
      <ConnectionStatus {...props} />
    </RowcastProvider>,
  );
  return { client, container, root: container.firstElementChild as HTMLElement };
}

test.each([
  ["Live", LIVE],
  ["Reconnecting", RECONNECTING],
  ["Delayed", DELAYED],
] as const)("%s: said in words, and without a fault that axe knows", async (word, status) => {
  const { container, root } = mount(status);
  const region = screen.getByRole("status");
  expect(region.textContent).toBe(word);
  expect(region.getAttribute("aria-live")).toBe("polite");
  expect(root.dataset["light"]).toBe(status.light);
  // Contrast needs a renderer; the words have the page's own colour.
  const { violations } = await axe.run(container, { rules: { "color-contrast": { enabled: false } } });
  expect(violations.map(({ id, help }) => `${id}: ${help}`)).toEqual([]);
});

test("the button is there while it is not live, and tries at once", () => {
  const { client } = mount(RECONNECTING);
  fireEvent.click(screen.getByRole("button", { name: "Reconnect" }));
  expect(client.calls).toEqual(["reconnect"]);
  act(() => client.show(DELAYED));
  expect(screen.getByRole("button", { name: "Reconnect" })).toBeTruthy();
});

test("while it is live nobody finds the button, and it keeps its place", () => {
  const { container } = mount(LIVE);
  expect(screen.queryByRole("button")).toBeNull();
  expect(container.querySelector("button")?.style.visibility).toBe("hidden");
});

test("a change is announced in the same region, which holds the word alone and has room for the longest", () => {
  const { client } = mount(LIVE);
  const region = screen.getByRole("status");
  const { minWidth } = region.style;
  expect(minWidth).toBe(`${"Reconnecting".length}ch`);
  act(() => client.show(DELAYED));
  expect(screen.getByRole("status")).toBe(region);
  expect(region.textContent).toBe("Delayed");
  expect(region.style.minWidth).toBe(minWidth);
});

test("words of another language, in part or all", () => {
  mount(DELAYED, { labels: { delayed: "Verzögert", reconnect: "Neu verbinden" } });
  expect(screen.getByRole("status").textContent).toBe("Verzögert");
  expect(screen.getByRole("button", { name: "Neu verbinden" })).toBeTruthy();
});

test("class and style are the application's; nothing in it moves by itself", () => {
  const { container, root } = mount(DELAYED, { className: "light", style: { gap: "2px" } });
  expect(root.className).toBe("light");
  expect(root.style.gap).toBe("2px");
  expect(container.innerHTML).toContain("var(--rowcast-delayed");
  expect(container.innerHTML).not.toMatch(/animation|transition/);
});

test("own markup gets the light, its word, the status and the way to reconnect", () => {
  const { client, container } = mount(DELAYED, {
    children: ({ light, label, status, reconnect }) => <button onClick={reconnect}>{`${light} ${label} ${status.reason}`}</button>,
  });
  expect(container.innerHTML).toBe("<button>delayed Delayed redis</button>");
  fireEvent.click(screen.getByRole("button"));
  expect(client.calls).toEqual(["reconnect"]);
});
