// @vitest-environment node
import { renderToString } from "react-dom/server";
import { expect, test } from "vitest";
import { ConnectionStatus, RowcastProvider, useRowcast, useRowcastEvent } from "../src/index";
import { Surroundings } from "./support";

test("where there is no window it renders the beginning, and opens nothing", () => {
  const around = new Surroundings();
  function Page() {
    useRowcastEvent("*", () => {});
    const { status } = useRowcast();
    return <p>{`${status.state} ${useRowcast((state) => state.status.since)}`}</p>;
  }
  expect(typeof window).toBe("undefined");
  const html = renderToString(
    <RowcastProvider options={around.options({ url: "/realtime" })}>
      <Page />
      <ConnectionStatus />
    </RowcastProvider>,
  );
  expect(html).toContain("INITIALIZING 0");
  expect(html).toContain("Reconnecting");
  expect(around.sockets).toEqual([]);
  expect(around.timers.size).toBe(0);
});
