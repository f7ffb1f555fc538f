/** Waiting for conditions, for at most as long as anything here may take. */

import { until as untilWithin } from "../../testing/until";

export async function until(what: string, holds: () => boolean | Promise<boolean>, ms = 20_000): Promise<void> {
  await untilWithin(what, ms, holds);
}
