/** How the system behind the page stands, asked for once a second while the page is looked at. */

import { useCallback, useEffect, useRef, useState } from "react";
import { fetchSystem, type System } from "../api";
import { usePage } from "../page";
import { changes } from "./changes";

const EVERY = 1_000;

/** The last answer (null before the first), whether the last look had one, and a function that looks now. */
export function useSystem(): { readonly system: System | null; readonly answers: boolean; readonly look: () => void } {
  const page = usePage();
  const [system, setSystem] = useState<System | null>(null);
  const [answers, setAnswers] = useState(true);
  const lookNow = useRef<() => void>(() => undefined);

  useEffect(() => {
    const end = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let last: System | null = null;
    const look = async () => {
      clearTimeout(timer);
      const answer = await fetchSystem(end.signal).catch(() => null);
      if (end.signal.aborted) return;
      if (answer !== null) {
        if (last !== null) for (const text of changes(last, answer)) page.log(null, text);
        last = answer;
        setSystem(answer);
      }
      setAnswers(answer !== null);
      if (document.visibilityState === "visible") timer = setTimeout(look, EVERY);
    };
    lookNow.current = () => void look();
    const onVisible = () => {
      if (document.visibilityState === "visible") void look();
    };
    document.addEventListener("visibilitychange", onVisible);
    void look();
    return () => {
      end.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisible);
    };
  }, [page]);

  return { system, answers, look: useCallback(() => lookNow.current(), []) };
}
