/** A button that breaks or mends something, says that it is at it, and why it could not. */

import { useState, type ReactNode } from "react";
import { breakIt, type BreakName } from "../api";
import { usePage } from "../page";

interface BreakButtonProps {
  readonly name: BreakName;
  /** What the log says when it is done. */
  readonly done: string;
  /** It mends what another one broke. */
  readonly mends?: boolean;
  readonly onDone: () => void;
  readonly children: ReactNode;
}

export function BreakButton({ name, done, mends = false, onDone, children }: BreakButtonProps) {
  const page = usePage();
  const [busy, setBusy] = useState(false);

  const press = async () => {
    if (busy) return;
    setBusy(true);
    try {
      await breakIt(name);
      page.log(null, done, mends ? "good" : "warn");
    } catch (error) {
      page.log(null, `${done}: no, ${error instanceof Error ? error.message : String(error)}`, "bad");
    } finally {
      setBusy(false);
      onDone();
    }
  };

  // Not `disabled`: the focus of whoever uses the keyboard would be lost.
  return (
    <button type="button" className={mends ? "button mends" : "button breaks"} data-break={name} aria-disabled={busy} aria-busy={busy} onClick={press}>
      {children}
    </button>
  );
}
