/** The last lines of what happened, the newest first, in a box that does not grow. */

import { clock, merchantName } from "../format";
import { useBounded, usePage } from "../page";

export function LogPanel() {
  const lines = useBounded(usePage().lines);
  return (
    <section className="card log" aria-labelledby="log-title">
      <h2 id="log-title">What happened</h2>
      <div className="log-lines" role="log" aria-label="What happened, the newest first" tabIndex={0}>
        <ol reversed>
          {[...lines].reverse().map((line) => (
            <li key={line.number} data-tone={line.tone}>
              <time dateTime={new Date(line.at).toISOString()}>{clock(line.at)}</time>
              <span className="log-who" data-merchant={line.merchant ?? ""}>
                {line.merchant === null ? "System" : merchantName(line.merchant)}
              </span>
              <span className="log-text">{line.text}</span>
            </li>
          ))}
        </ol>
      </div>
    </section>
  );
}
