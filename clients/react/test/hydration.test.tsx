import { act, screen, waitFor } from "@testing-library/react";
import { StrictMode } from "react";
import { hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { expect, test, vi } from "vitest";
import { ConnectionStatus, RowcastProvider, useRowcast } from "../src/index";
import { FakeClient, LIVE, Surroundings } from "./support";

function Since() {
  return <p>{useRowcast(({ status }) => `${status.state} since ${status.since}`)}</p>;
}

test("a page that a server rendered is hydrated without a mismatch, and then shows what is so", async () => {
  const around = new Surroundings();
  const app = (
    <StrictMode>
      <RowcastProvider options={around.options()}>
        <Since />
        <ConnectionStatus />
      </RowcastProvider>
    </StrictMode>
  );
  const container = document.body.appendChild(document.createElement("div"));
  container.innerHTML = renderToString(app);
  const complaints = vi.spyOn(console, "error");
  const recovered: unknown[] = [];
  const root = await act(async () => hydrateRoot(container, app, { onRecoverableError: (error) => recovered.push(error) }));
  await waitFor(() => expect(screen.getByRole("status").textContent).toBe("Live"));
  expect(recovered).toEqual([]);
  expect(complaints.mock.calls).toEqual([]);
  expect(around.sockets).toHaveLength(1);
  act(() => root.unmount());
  complaints.mockRestore();
  container.remove();
});

test("a client that is connected already hydrates what the server rendered, then shows its status", async () => {
  const client = new FakeClient();
  const app = (
    <RowcastProvider client={client}>
      <ConnectionStatus />
    </RowcastProvider>
  );
  const container = document.body.appendChild(document.createElement("div"));
  container.innerHTML = renderToString(app);
  client.show(LIVE);
  const recovered: unknown[] = [];
  const root = await act(async () => hydrateRoot(container, app, { onRecoverableError: (error) => recovered.push(error) }));
  expect(screen.getByRole("status").textContent).toBe("Live");
  expect(recovered).toEqual([]);
  act(() => root.unmount());
  container.remove();
});
