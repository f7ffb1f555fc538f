/** What a merchant sees: the name, the light, the bookings by status, and the controls of this client. */

import { useCallback, useId, useMemo, type Dispatch } from "react";
import { ConnectionStatus, useRowcast, useRowcastEvent } from "@rowcast/react";
import { addBooking } from "../api";
import { merchantName } from "../format";
import { Icon } from "../icons";
import { useLatency } from "../latency/useLatency";
import { useTransitions } from "../log/useTransitions";
import { usePage } from "../page";
import type { Tokens } from "../tokens";
import { byStatus, counts, STATUSES, type Board } from "./board";
import { ClientControls } from "./ClientControls";
import { Column } from "./Column";
import { Connection } from "./Connection";
import type { BoardAction } from "./useBoard";

/** The life of a token that is to end while one watches, in seconds. */
const SHORT = 3;

interface BoardPanelProps {
  readonly merchant: string;
  readonly series: number;
  readonly board: Board;
  readonly dispatch: Dispatch<BoardAction>;
  readonly tokens: Tokens;
  readonly polling: boolean;
  readonly onPolling: (polling: boolean) => void;
}

export function BoardPanel({ merchant, series, board, dispatch, tokens, polling, onPolling }: BoardPanelProps) {
  const page = usePage();
  const { status, reconnect } = useRowcast();
  const title = useId();
  const measure = useLatency(merchant);
  useTransitions(merchant, status);
  useRowcastEvent("booking.*", (event) => {
    dispatch({ kind: "event", event });
    measure(event.at);
  });

  const columns = useMemo(() => byStatus(board), [board]);
  const count = useMemo(() => counts(board), [board]);
  const onGone = useCallback((id: number) => dispatch({ kind: "forget", id }), [dispatch]);
  const onError = useCallback((error: unknown) => page.log(merchant, `Not done: ${error instanceof Error ? error.message : String(error)}`, "bad"), [merchant, page]);

  const expire = () => {
    tokens.endSoon(SHORT);
    page.log(merchant, `Its token ends in ${SHORT} s, and nobody renews it`, "warn");
    reconnect();
  };

  return (
    <section className="merchant" data-merchant={merchant} data-series={series} data-loaded={board.loaded} aria-labelledby={title}>
      <header className="merchant-head">
        <span className="monogram" aria-hidden="true">
          {merchantName(merchant).charAt(0)}
        </span>
        <div className="merchant-name">
          <h2 id={title}>{merchantName(merchant)}</h2>
          <Connection status={status} />
        </div>
        <ConnectionStatus className="light" />
      </header>
      <div className="merchant-bar">
        <button type="button" className="button primary" data-client="add" onClick={() => void addBooking(merchant).catch(onError)}>
          <Icon name="plus" />
          Add booking
        </button>
        <ClientControls polling={polling} onExpire={expire} onPolling={onPolling} />
      </div>
      <div className="columns">
        {STATUSES.map((each) => (
          <Column key={each} status={each} entries={columns[each]} count={count[each]} loaded={board.loaded} onGone={onGone} onError={onError} />
        ))}
      </div>
    </section>
  );
}
