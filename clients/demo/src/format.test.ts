import { expect, it } from "vitest";
import { appointment, merchantName, price } from "./format";

it("an appointment is a day and an hour; what is no time is shown as it is", () => {
  expect(appointment("2026-11-28T10:30:00+00:00")).toMatch(/^\w{3} \d{1,2}, \d{2}:\d{2}$/);
  expect(appointment("soon")).toBe("soon");
});

it("a price has cents only where there are some", () => {
  expect([2900, 7550, 0].map(price)).toEqual(["€29", "€75.50", "€0"]);
});

it("a room's name is shown as a merchant's", () => {
  expect(merchantName("salon-anna")).toBe("Salon Anna");
});
