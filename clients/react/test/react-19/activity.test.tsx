import { act, render, screen, waitFor } from "@testing-library/react";
import { Activity } from "react";
import { expect, test } from "vitest";
import { ConnectionStatus, RowcastProvider } from "../../src/index";
import { cursorAt, event, ROOM, Surroundings } from "../support";

test("a hidden provider closes its socket; shown again, it resumes at its cursor", async () => {
  const around = new Surroundings();
  const options = around.options();
  const app = (mode: "visible" | "hidden") => (
    <Activity mode={mode}>
      <RowcastProvider options={options}>
        <ConnectionStatus />
      </RowcastProvider>
    </Activity>
  );
  const { rerender } = render(app("visible"));
  await waitFor(() => expect(screen.getByRole("status").textContent).toBe("Live"));
  act(() => around.socket.give({ op: "event", ...event(4) }));
  rerender(app("hidden"));
  await waitFor(() => expect(around.open()).toEqual([]));
  rerender(app("visible"));
  await waitFor(() => expect(around.auths).toHaveLength(2));
  expect(around.auths[1]?.resume).toEqual({ [ROOM]: cursorAt(4) });
});
