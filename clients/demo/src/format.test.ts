import { expect, it } from "vitest";
import { appointment, merchantName, servicePrice } from "./format";

it("an appointment is a day and an hour; what is no time is shown as it is", () => {
  expect(appointment("2026-11-28T10:30:00+00:00")).toMatch(/^\w{3} \d{1,2}, \d{2}:\d{2}$/);
  expect(appointment("soon")).toBe("soon");
});

it("a service says how long and how much", () => {
  expect(servicePrice({ name: "Colour", durationMinutes: 90, priceCents: 7500 })).toBe("90 min · €75");
  expect(servicePrice({ name: "Colour", durationMinutes: 90, priceCents: 7550 })).toBe("90 min · €75.50");
});

it("a room's name is shown as a merchant's", () => {
  expect(merchantName("salon-anna")).toBe("Salon Anna");
});
