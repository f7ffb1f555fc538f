import { expect, it, vi } from "vitest";
import { Bounded } from "./bounded";

it("keeps the last ones, numbered on, and tells its listeners until they leave", () => {
  const list = new Bounded<{ name: string }>(3);
  const listener = vi.fn();
  const leave = list.subscribe(listener);
  list.add({ name: "a" }, { name: "b" });
  list.add({ name: "c" }, { name: "d" });
  expect(list.get()).toEqual([
    { name: "b", number: 2 },
    { name: "c", number: 3 },
    { name: "d", number: 4 },
  ]);
  leave();
  list.add({ name: "e" });
  expect(listener).toHaveBeenCalledTimes(2);
});

it("is the same list until something is added", () => {
  const list = new Bounded<{ name: string }>(3);
  const before = list.get();
  list.add();
  expect(list.get()).toBe(before);
});
