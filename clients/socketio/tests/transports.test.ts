/** WebSockets alone are served: who names them first is in at once, and who polls over HTTP is told what to do. */

import { expect, it } from "vitest";
import { Link } from "../src/link";
import { NEWEST, type Options, withEach } from "../src/stock";
import { system } from "../src/system";
import { until } from "../src/until";

const here = system();

/** Since 4.8; types of earlier ones do not have it. */
const ALL: Options = { transports: ["polling", "websocket"], tryAllTransports: true };

withEach((stock) => {
  it("transports of websocket and then polling are one request, for a WebSocket", async () => {
    const link = await Link.to(here.url());
    const room = here.room("websocket-first");
    const listener = await here.listen(stock, room, { transports: ["websocket", "polling"] }, link.url).live();
    await here.insert(room, "heard");
    await listener.hears("heard");
    expect(listener.socket.io.engine.transport.name).toBe("websocket");
    expect(link.asked).toEqual([expect.stringMatching(/^GET \/socket\.io\/\?EIO=4&transport=websocket\b/)]);
    expect(listener.errors).toEqual([]);
  });

  it("the transports of the client's own choice are refused, and the answer says what to set", async () => {
    const listener = here.listen(stock, here.room("default"), { transports: ["polling", "websocket"] });
    await until("a refusal", () => listener.errors.length > 0);
    const [error] = listener.errors;
    expect(error?.message).toBe("xhr poll error");
    expect(error?.description).toBe(400);
    if (stock === NEWEST)
      expect(JSON.parse(error?.responseText ?? "")).toMatchObject({ code: 0, message: "Transport unknown", hint: expect.stringContaining("websocket") });
  });
});

it(`socket.io-client ${NEWEST.version} that tries all transports gets to the WebSocket by itself`, async () => {
  const room = here.room("all");
  const listener = await here.listen(NEWEST, room, ALL).live();
  await here.insert(room, "heard");
  await listener.hears("heard");
  expect(listener.socket.io.engine.transport.name).toBe("websocket");
});
