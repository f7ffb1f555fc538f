/** What all parts of the page write to: the latencies and the log. One of each, made with the page. */

import { createContext, useContext, useSyncExternalStore } from "react";
import { Bounded, type Numbered } from "./bounded";
import { KEPT, type Sample } from "./latency/samples";
import type { Line } from "./log/lines";

/** Log lines that are kept. */
const LINES = 80;

export class Page {
  readonly samples = new Bounded<Sample>(KEPT);
  readonly lines = new Bounded<Line>(LINES);

  /** Writes a line; `merchant` is null where it concerns both. */
  log(merchant: string | null, text: string, tone: Line["tone"] = "plain"): void {
    this.lines.add({ at: Date.now(), merchant, text, tone });
  }
}

export const PageContext = createContext<Page | null>(null);

export function usePage(): Page {
  const page = useContext(PageContext);
  if (page === null) throw new Error("there is no PageContext around this component");
  return page;
}

/** What a bounded list holds, rendered anew when it changes. */
export function useBounded<Item extends object>(list: Bounded<Item>): readonly Numbered<Item>[] {
  return useSyncExternalStore(list.subscribe, list.get);
}
