/** What applications write, compiled against React 18's types and the built package. Nothing here runs. */

import { ConnectionStatus, RowcastProvider, useRowcast, useRowcastEvent } from "@rowcast/react";

function Board() {
  const light = useRowcast(({ status }) => status.light);
  useRowcastEvent("booking.*", (event) => console.log(event.type, event.data));
  return <p>{light}</p>;
}

export function App() {
  return (
    <RowcastProvider options={{ url: "/", token: "token" }}>
      <Board />
      <ConnectionStatus className="light" labels={{ live: "Direkt" }} />
      <ConnectionStatus>{({ label, reconnect }) => <button onClick={reconnect}>{label}</button>}</ConnectionStatus>
    </RowcastProvider>
  );
}
