/** Commit to screen of the last events: the figures, and a dot for each event. */

import { memo, useRef } from "react";
import type { Numbered } from "../bounded";
import { merchantName } from "../format";
import { useBounded, usePage } from "../page";
import { duration, height, KEPT, quantile, type Sample } from "./samples";
import { useSize } from "./useSize";

/** The room for the axis' words. */
const LEFT = 50;
const LEAST = 1;
const MOST = 10_000;
const LINES = [1, 10, 100, 1_000, 10_000];

export function LatencyPanel({ merchants }: { readonly merchants: readonly string[] }) {
  const samples = useBounded(usePage().samples);
  const values = samples.map(({ ms }) => ms);
  const half = quantile(values, 0.5);
  const most = quantile(values, 0.99);
  return (
    <section className="card latency" aria-labelledby="latency-title">
      <header>
        <h2 id="latency-title">Commit to screen</h2>
        <dl>
          <Figure name="p50" value={duration(half)} />
          <Figure name="p99" value={duration(most)} />
          <Figure name="events" value={String(samples.length)} />
        </dl>
      </header>
      <Chart samples={samples} merchants={merchants} label={`The last ${samples.length} events: half took up to ${duration(half)}, 99 % up to ${duration(most)}`} />
      <ul className="legend">
        {merchants.map((merchant, index) => (
          <li key={merchant} data-series={index}>
            {merchantName(merchant)}
          </li>
        ))}
        <li className="legend-note">the last {KEPT}, logarithmic</li>
      </ul>
    </section>
  );
}

function Figure({ name, value }: { readonly name: string; readonly value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

interface ChartProps {
  readonly samples: readonly Numbered<Sample>[];
  readonly merchants: readonly string[];
  readonly label: string;
}

const Chart = memo(function Chart({ samples, merchants, label }: ChartProps) {
  const element = useRef<SVGSVGElement>(null);
  const size = useSize(element);
  const last = samples.at(-1)?.number ?? 0;
  const y = (ms: number) => size.height - 8 - height(ms, LEAST, MOST) * (size.height - 16);
  const x = (number: number) => size.width - 6 - (last - number) * ((size.width - LEFT - 14) / KEPT);
  return (
    <svg ref={element} className="chart" viewBox={`0 0 ${size.width} ${size.height}`} role="img" aria-label={label}>
      {LINES.map((ms) => (
        <g key={ms}>
          <line x1={LEFT} x2={size.width} y1={y(ms)} y2={y(ms)} />
          <text x={LEFT - 8} y={y(ms)}>
            {ms < 1_000 ? `${ms} ms` : `${ms / 1_000} s`}
          </text>
        </g>
      ))}
      {samples.map(({ number, ms, merchant }) => (
        <circle key={number} data-series={merchants.indexOf(merchant)} cx={x(number)} cy={y(ms)} r={2.4} />
      ))}
    </svg>
  );
});
