/** The page: two merchants' boards, the way of a row behind them, the latency and the log. */

import { useState } from "react";
import { MerchantBoard } from "./board/MerchantBoard";
import { LatencyPanel } from "./latency/LatencyPanel";
import { LogPanel } from "./log/LogPanel";
import { Page, PageContext } from "./page";
import { useSystem } from "./system/useSystem";
import { Way } from "./system/Way";

/** The shop's merchants, as `rowcast dev` makes them. */
const MERCHANTS = ["salon-anna", "barber-ben"] as const;

export function App() {
  const [page] = useState(() => new Page());
  return (
    <PageContext value={page}>
      <header className="top">
        <p className="wordmark">Rowcast</p>
        <h1>Bookings, live</h1>
        <p className="claim">Each row below was committed to PostgreSQL. Nothing here is reloaded.</p>
      </header>
      <main>
        <div className="boards">
          {MERCHANTS.map((merchant, series) => (
            <MerchantBoard key={merchant} merchant={merchant} series={series} />
          ))}
        </div>
        <Behind />
      </main>
    </PageContext>
  );
}

function Behind() {
  const system = useSystem();
  return (
    <div className="behind">
      <Way {...system} />
      <LatencyPanel merchants={MERCHANTS} />
      <LogPanel />
    </div>
  );
}
