/** What is worth a line when the system behind the page changes. Pure. */

import type { Listener, System } from "../api";

/** The changes between two looks, in words. */
export function changes(before: System, after: System): string[] {
  return [
    ...after.edges.flatMap((edge) => {
      const old = before.edges.find(({ name }) => name === edge.name);
      if (old === undefined || old.up === edge.up) return [];
      return edge.up ? [`${edge.name} is back`] : [`${edge.name} is gone`];
    }),
    ...(paused(before) === paused(after) ? [] : [paused(after) ? "The listeners are paused" : "The listeners go on"]),
    ...(leader(before) === leader(after) || leader(after) === null ? [] : [`${leader(after)} leads`]),
    ...(before.redis.up === after.redis.up ? [] : [after.redis.up ? "Redis is back" : "Redis is gone"]),
    ...(before.websockets === after.websockets
      ? []
      : [after.websockets === "open" ? "The balancer lets WebSockets through" : "The balancer refuses WebSockets"]),
    ...(before.switch === after.switch
      ? []
      : [after.switch === "on" ? "WebSockets are switched on" : "WebSockets are switched off for everyone"]),
  ];
}

/** Whether no listener that runs is at work. */
export function paused(system: System): boolean {
  const running = system.listeners.filter(({ up }) => up);
  return running.length > 0 && running.every((listener) => listener.paused);
}

/** The listener that publishes, if one does. */
export function leader(system: System): string | null {
  const leads = ({ up, leader, paused }: Listener) => up && leader && !paused;
  return system.listeners.find(leads)?.name ?? null;
}
