import { describe, expect, it } from "vitest";
import { duration, height, milliseconds, quantile } from "./samples";

describe("quantiles", () => {
  it("are values that occurred, by nearest rank", () => {
    const values = Array.from({ length: 200 }, (_, index) => 200 - index);
    expect(quantile(values, 0.5)).toBe(100);
    expect(quantile(values, 0.99)).toBe(198);
    expect(quantile(values, 1)).toBe(200);
    expect(quantile(values, 0)).toBe(1);
  });

  it("of one value are that value, and of none there are none", () => {
    expect(quantile([7], 0.99)).toBe(7);
    expect(quantile([], 0.5)).toBeNull();
  });

  it("leave what they are given as it was", () => {
    const values = [3, 1, 2];
    quantile(values, 0.5);
    expect(values).toEqual([3, 1, 2]);
  });
});

describe("the axis", () => {
  it("gives each power of ten the same height, and keeps to its ends", () => {
    expect(height(1, 1, 10_000)).toBe(0);
    expect(height(100, 1, 10_000)).toBeCloseTo(0.5);
    expect(height(10_000, 1, 10_000)).toBe(1);
    expect(height(0, 1, 10_000)).toBe(0);
    expect(height(99_999, 1, 10_000)).toBe(1);
  });
});

describe("times", () => {
  it("keep their microseconds", () => {
    expect(milliseconds("1970-01-01T00:00:01.234567Z")).toBeCloseTo(1_234.567, 6);
    expect(milliseconds("1970-01-01T00:00:01.5Z")).toBe(1_500);
    expect(milliseconds("1970-01-01T00:00:01Z")).toBe(1_000);
  });

  it("are said with as many digits as people read", () => {
    expect([null, 1.234, 12.6, 999.4, 1_234, 65_400].map(duration)).toEqual(["–", "1.2 ms", "13 ms", "999 ms", "1.2 s", "65 s"]);
  });
});
