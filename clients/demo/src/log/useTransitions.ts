/** Writes a client's changes of state into the log. */

import { useEffect, useRef } from "react";
import type { Status } from "@rowcast/client";
import { usePage } from "../page";
import { transition, type Followed } from "./lines";

export function useTransitions(merchant: string, status: Status): void {
  const page = usePage();
  const before = useRef<Followed | null>(null);
  useEffect(() => {
    const line = transition(before.current, status);
    before.current = status;
    if (line !== null) page.log(merchant, line.text, line.tone);
  }, [merchant, page, status]);
}
