import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, render, screen, waitFor } from "@testing-library/react";
import { afterEach, expect, test, vi } from "vitest";
import { cursorAt, event, ROOM, Surroundings } from "../../test/support";
import { Board } from "./Board";
import type { Booking } from "./events";
import { LiveBookings } from "./LiveBookings";

afterEach(() => vi.unstubAllGlobals());

function booking(id: number, status: Booking["status"] = "pending"): Booking {
  return { id, merchantId: ROOM, customerName: `Customer ${id}`, status };
}

/** The application's API: each request waits until it is answered. */
class Api {
  readonly requests: { readonly answer: (rows: readonly Booking[]) => void; readonly fail: () => void; readonly signal: AbortSignal }[] = [];

  constructor() {
    vi.stubGlobal("fetch", (_url: string, { signal }: { readonly signal: AbortSignal }) =>
      new Promise<Response>((resolve, reject) => {
        signal.addEventListener("abort", () => reject(new Error("aborted")));
        this.requests.push({
          answer: (rows) => resolve(Response.json(rows)),
          fail: () => resolve(new Response(null, { status: 503 })),
          signal,
        });
      }),
    );
  }

  async request(index: number) {
    await waitFor(() => expect(this.requests.length).toBeGreaterThan(index));
    const request = this.requests[index];
    if (!request) throw new Error(`no request ${index}`);
    return request;
  }
}

function mount(): Surroundings {
  const around = new Surroundings();
  const { onResync: _, ...options } = around.options();
  render(
    <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>
      <LiveBookings options={options}>
        <Board merchant={ROOM} />
      </LiveBookings>
    </QueryClientProvider>,
  );
  return around;
}

const shown = (): (string | null)[] => screen.queryAllByRole("listitem").map(({ textContent }) => textContent);
const light = (): string | null => screen.getByRole("status").textContent;
const give = (around: Surroundings, offset: number, type: string, row: Booking): void =>
  act(() => around.socket.give({ op: "event", ...event(offset, type, row) }));

test("events that come while the snapshot is on its way are shown on top of it, whatever the order of answers", async () => {
  const api = new Api();
  const around = mount();
  // The first request is Query's own, of the component that mounted; the second is the snapshot's.
  const [own, snapshot] = [await api.request(0), await api.request(1)];
  give(around, 1, "booking.updated", booking(1, "confirmed"));
  give(around, 2, "booking.created", booking(3));
  expect(shown()).toEqual([]);
  snapshot.answer([booking(1), booking(2)]);
  await waitFor(() => expect(shown()).toEqual(["Customer 1, confirmed", "Customer 2, pending", "Customer 3, pending"]));
  expect(own.signal.aborted).toBe(true);
  give(around, 3, "booking.deleted", booking(2));
  await waitFor(() => expect(shown()).toEqual(["Customer 1, confirmed", "Customer 3, pending"]));
  expect(light()).toBe("Live");
});

test("a snapshot that fails is fetched again, and no event is lost in between", async () => {
  const api = new Api();
  const around = mount();
  (await api.request(0)).fail();
  (await api.request(1)).fail();
  give(around, 1, "booking.created", booking(7));
  await waitFor(() => expect(light()).toBe("Delayed"));
  (await api.request(2)).answer([booking(1)]);
  await waitFor(() => expect(shown()).toEqual(["Customer 1, pending", "Customer 7, pending"]));
  await waitFor(() => expect(light()).toBe("Live"));
});

test("a reconnection while the snapshot is on its way does not resume behind the hole", async () => {
  const api = new Api();
  const around = mount();
  await api.request(1);
  act(() => around.socket.drop());
  await waitFor(() => expect(around.auths).toHaveLength(2));
  expect(around.auths[1]?.resume).toEqual({});
  (await api.request(2)).answer([booking(1)]);
  await waitFor(() => expect(shown()).toEqual(["Customer 1, pending"]));
  act(() => around.socket.drop());
  await waitFor(() => expect(around.auths).toHaveLength(3));
  expect(around.auths[2]?.resume).toEqual({ [ROOM]: cursorAt(0) });
});
