/** Whether what is shown is live: said to clients that ask for nothing but events. */

import { afterEach, expect, it } from "vitest";
import { STOCK } from "../src/stock";
import { system } from "../src/system";
import { until } from "../src/until";

const here = system();

const signal = (name: NodeJS.Signals): void => here.rowcast.installation().listeners.forEach(({ pid }) => process.kill(pid, name));
afterEach(() => signal("SIGCONT"));

it("listeners that stand still are said within 5 s, and so is their going on, with the socket open all the time", async () => {
  const room = here.room("light");
  const listeners = STOCK.map((stock) => here.listen(stock, room));
  for (const listener of listeners) await listener.live();
  const states = (): unknown[][] => listeners.map((listener) => listener.named("rowcast.status").map(({ payload }) => payload["live"]));
  signal("SIGSTOP");
  await until("it is said", () => states().every((all) => all.at(-1) === false), 5_000);
  await here.insert(room, "late");
  signal("SIGCONT");
  await until("it is said", () => states().every((all) => all.at(-1) === true));
  for (const listener of listeners) {
    await listener.hears("late");
    expect(listener.disconnects).toEqual([]);
  }
});
