/** A token's end is told by the server, and its successor by another tab: what happens when the two cross. */

import { expect, test, vi } from "vitest";
import { connected } from "./support";
import { FakeServer } from "./server";
import { Tab, World } from "./world";

/** A connected client whose token stands in the storage of its tab, and how it would get another. */
async function withStoredToken() {
  const world = new World();
  const server = new FakeServer(world);
  const tab = new Tab(world, server);
  const refresh = vi.fn(async () => server.token());
  tab.origin.storage.write(tab, "token", server.token());
  await connected({ token: { storage: "local", key: "token", refresh } }, { tab });
  return { world, server, tab, refresh };
}

test("a warning that speaks of the old token, while another tab's newer one is on its way, asks for no third", async () => {
  const { world, server, tab, refresh } = await withStoredToken();
  const [session] = server.sessions;

  // Another tab was first: its token is found, and sent. The server's warning is on its way meanwhile.
  tab.origin.storage.write(new Tab(world, server, tab.origin), "token", server.token());
  session?.tell({ op: "token_expiring", in: 60 });
  await world.advance(1_000);
  expect(refresh).not.toHaveBeenCalled();

  // The next warning is about the newer one.
  session?.tell({ op: "token_expiring", in: 60 });
  await world.advance(1_000);
  expect(refresh).toHaveBeenCalledTimes(1);
});

test("the news of a token that has been found in the storage already asks for no third", async () => {
  const { world, server, tab, refresh } = await withStoredToken();

  // The warning makes it look: another tab's token is there. The browser's news of it comes afterwards.
  const token = server.token();
  tab.origin.storage.values.set("token", token);
  for (const session of server.sessions) session.tell({ op: "token_expiring", in: 60 });
  await world.advance(1_000);
  tab.fire("storage", { key: "token", newValue: token });
  await world.advance(1_000);
  expect(refresh).not.toHaveBeenCalled();
});
