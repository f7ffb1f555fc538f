/** One merchant's window: its own token, client and provider, and within them its board. */

import { useCallback, useMemo, useState } from "react";
import { RowcastProvider } from "@rowcast/react";
import type { Resync, RowcastOptions } from "@rowcast/client";
import { fetchToken } from "../api";
import { usePage } from "../page";
import { Tokens } from "../tokens";
import { BoardPanel } from "./BoardPanel";
import { fetchSnapshot, useBoard } from "./useBoard";

/** A page to watch: polls and attempts come sooner than an application would want them. */
const IMPATIENT = { polling: { interval: 4_000 }, backoff: { min: 300, max: 4_000 }, attempts: 4 } as const;

interface MerchantBoardProps {
  readonly merchant: string;
  /** Which one of the merchants, for its colour. */
  readonly series: number;
}

export function MerchantBoard({ merchant, series }: MerchantBoardProps) {
  const page = usePage();
  const [board, dispatch] = useBoard();
  const [tokens] = useState(() => new Tokens(merchant, fetchToken));
  const [polling, setPolling] = useState(false);

  const onResync = useCallback(
    async (resync: Resync) => {
      const bookings = await fetchSnapshot(merchant, tokens, resync);
      dispatch({ kind: "snapshot", bookings });
      page.log(merchant, `Snapshot of ${bookings.length} bookings, ${resync.reason}`);
    },
    [merchant, tokens, dispatch, page],
  );
  const options = useMemo<RowcastOptions>(
    () => ({ url: "/", token: tokens.source, onResync, transport: polling ? "polling" : "auto", ...IMPATIENT }),
    [tokens, onResync, polling],
  );

  return (
    <RowcastProvider options={options}>
      <BoardPanel merchant={merchant} series={series} board={board} dispatch={dispatch} tokens={tokens} polling={polling} onPolling={setPolling} />
    </RowcastProvider>
  );
}
