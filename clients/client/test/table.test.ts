import { expect, test } from "vitest";
import { table } from "../src/table";

test("every state answers every signal", () => {
  const signals = Object.keys(table.INITIALIZING).sort();
  for (const row of Object.values(table)) expect(Object.keys(row).sort()).toEqual(signals);
});
