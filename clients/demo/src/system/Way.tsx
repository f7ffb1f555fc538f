/** The way of a row from the database to this page: how each station stands, and what can be broken there. */

import type { ReactNode } from "react";
import type { System } from "../api";
import { BreakButton } from "./BreakButton";
import { leader, paused } from "./changes";

interface WayProps {
  readonly system: System | null;
  readonly answers: boolean;
  readonly look: () => void;
}

export function Way({ system, answers, look }: WayProps) {
  return (
    <section className="way" aria-labelledby="way-title" data-answers={answers}>
      <header>
        <h2 id="way-title">The way of a row</h2>
        <p>{answers ? "Break a link and watch the lights above." : "The demo does not answer; what is shown is the last that it said."}</p>
      </header>
      <ol>
        <Station name="PostgreSQL" well>
          <p>The shop writes; each change goes into an outbox with it.</p>
        </Station>
        <Listeners system={system} look={look} />
        <Redis system={system} look={look} />
        <Edges system={system} look={look} />
        <Balancer system={system} look={look} />
      </ol>
    </section>
  );
}

interface StationProps {
  readonly name: string;
  readonly well: boolean;
  readonly children: ReactNode;
  readonly buttons?: ReactNode;
}

function Station({ name, well, children, buttons }: StationProps) {
  return (
    <li className="station" data-well={well}>
      <h3>
        <span className="dot" aria-hidden="true" />
        {name}
        <span className="visually-hidden">{well ? ": works" : ": does not work"}</span>
      </h3>
      <div className="station-body">{children}</div>
      <div className="station-buttons">{buttons}</div>
    </li>
  );
}

type PartProps = Pick<WayProps, "system" | "look">;

function Listeners({ system, look }: PartProps) {
  const stopped = system !== null && paused(system);
  const button = stopped ? (
    <BreakButton name="resume-listeners" done="Listeners resumed" mends onDone={look}>
      Resume listeners
    </BreakButton>
  ) : (
    <BreakButton name="pause-listeners" done="Listeners paused" onDone={look}>
      Pause listeners
    </BreakButton>
  );
  return (
    <Station name="Listeners" well={system === null || leader(system) !== null} buttons={button}>
      <Parts>
        {system?.listeners.map(({ name, up, paused, leader }) => (
          <Part key={name} name={name} well={up && !paused} note={!up ? "gone" : paused ? "paused" : leader ? "leads" : "stands by"} />
        ))}
      </Parts>
    </Station>
  );
}

function Redis({ system, look }: PartProps) {
  const up = system === null || system.redis.up;
  const button = (
    <BreakButton name="restart-redis" done="Redis restarted" onDone={look}>
      Restart Redis
    </BreakButton>
  );
  return (
    <Station name="Redis" well={up} buttons={button}>
      <Parts>
        <Part name="redis" well={up} note={up ? "up" : "gone"} />
      </Parts>
    </Station>
  );
}

function Edges({ system, look }: PartProps) {
  const button = (
    <BreakButton name="kill-edge" done="An edge was killed" onDone={look}>
      Kill an edge
    </BreakButton>
  );
  return (
    <Station name="Edges" well={system === null || system.edges.some(({ up }) => up)} buttons={button}>
      <Parts>
        {system?.edges.map(({ name, up, connections }) => (
          <Part key={name} name={name} well={up} note={up ? `${connections} ${connections === 1 ? "socket" : "sockets"}` : "gone"} />
        ))}
      </Parts>
    </Station>
  );
}

function Balancer({ system, look }: PartProps) {
  const open = system === null || system.websockets === "open";
  const on = system === null || system.switch === "on";
  const buttons = (
    <>
      {open ? (
        <BreakButton name="block-websockets" done="WebSockets blocked" onDone={look}>
          Block WebSockets
        </BreakButton>
      ) : (
        <BreakButton name="allow-websockets" done="WebSockets allowed" mends onDone={look}>
          Allow WebSockets
        </BreakButton>
      )}
      {on ? (
        <BreakButton name="switch-off" done="Switched to polling" onDone={look}>
          Switch to polling
        </BreakButton>
      ) : (
        <BreakButton name="switch-on" done="Switched to WebSockets" mends onDone={look}>
          Switch back
        </BreakButton>
      )}
    </>
  );
  return (
    <Station name="Balancer" well={open && on} buttons={buttons}>
      <Parts>
        <Part name="WebSockets" well={open} note={open ? "let through" : "refused"} />
        <Part name="Switch" well={on} note={on ? "WebSockets" : "polling"} />
      </Parts>
    </Station>
  );
}

function Parts({ children }: { readonly children: ReactNode }) {
  return <ul className="parts">{children}</ul>;
}

function Part({ name, well, note }: { readonly name: string; readonly well: boolean; readonly note: string }) {
  return (
    <li data-well={well}>
      <span>{name}</span>
      <span className="part-note">{note}</span>
    </li>
  );
}
