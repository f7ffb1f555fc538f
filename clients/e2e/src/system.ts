/** What scenarios do to the running system, and what they ask it. */

import { inject } from "vitest";
import type { BreakName, System } from "../../demo/src/api";
import { readDev, type DevFile } from "../../testing/dev";
import { until } from "../../testing/until";

export async function dev(): Promise<DevFile> {
  return readDev(inject("devFolder"));
}

/** Presses one of the demo's buttons. */
export async function breakIt(name: BreakName): Promise<void> {
  const { url } = await dev();
  const response = await fetch(`${url}/demo/break/${name}`, { method: "POST" });
  if (!response.ok) throw new Error(`${name}: ${response.status} ${await response.text()}`);
}

export async function state(): Promise<System> {
  const { url } = await dev();
  const response = await fetch(`${url}/demo/state`);
  if (!response.ok) throw new Error(`/demo/state: ${response.status} ${await response.text()}`);
  return (await response.json()) as System;
}

/** Kills every edge, so that no client is spared. They are started again. */
export async function killEdges(): Promise<void> {
  const before = await dev();
  for (const { pid } of before.edges) process.kill(pid, "SIGKILL");
  await until("the killed edges have successors", 20_000, async () => {
    const now = await dev();
    return now.edges.every(({ pid }) => before.edges.every((edge) => edge.pid !== pid));
  });
}

/** Mends all that a scenario may have broken, so that the next one begins with a whole system. */
export async function mend(): Promise<void> {
  const now = await state();
  if (now.listeners.some(({ paused }) => paused)) await breakIt("resume-listeners");
  if (now.websockets === "blocked") await breakIt("allow-websockets");
  if (now.switch === "off") await breakIt("switch-on");
  await until("the system is whole", 30_000, async () => {
    const { edges, listeners, websockets, redis, ...rest } = await state();
    const leads = listeners.some(({ up, leader, paused }) => up && leader && !paused);
    return edges.every(({ up }) => up) && leads && websockets === "open" && rest.switch === "on" && redis.up;
  });
}
