/** @file The sections of a run's report that show measures: gain, scores, loss, and where the image acts. */
import type { ScoreSet } from '../base/run-context.js';
import type { Interval } from '../base/statistics.js';
import type { RunRecord } from './read-run.js';
import { barChart, escaped, lineChart, type Series, smoothed } from './report-charts.js';

export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
export const cosine = (value: number): string => value.toFixed(3);
export const last = <T>(list: readonly T[]): T | undefined => list.at(-1);

export function gainSection({ gains }: RunRecord): string {
  const now = last(gains);
  if (now === undefined) return '';
  const parts = [
    ['without adapter', 'over_base', 'var(--blue)'],
    ['without image', 'over_none', 'var(--orange)'],
    ["with another row's image", 'specificity', 'var(--green)'],
  ] as const;
  // The third is often several times the others: on one axis they would be flat.
  const charts = [parts.slice(0, 2), parts.slice(2)].map((some) => {
    const series = some.map(([name, key, colour]): Series => {
      const points = gains.map((gain) => ({ x: gain.step, y: gain[key].mean, ...ends(gain[key]) }));
      return { name, colour, points };
    });
    return `<div>${lineChart(series, { label: 'Gains over the steps, with 95 % intervals', includes: [0] })}</div>`;
  });
  const bands = parts.map(([name, key, colour]) => {
    const bars = now.bands.map((band) => {
      return { name: `${band.first}–${band.end - 1}`, y: band[key].mean, ...ends(band[key]), colour };
    });
    return `<div><h3>${escaped(name[0]?.toUpperCase() + name.slice(1))}</h3>${barChart(bars, { label: `Gain over ${name} by timestep` })}</div>`;
  });
  return `<section><h2>Does it use the image?</h2>
<p>How much lower the loss of ${now.rows} held-out rows is with the right image than otherwise, at fixed noise and timesteps. Bands are 95 % intervals. The adapter uses its image where all three lie above zero.</p>
<div class="columns halves">${charts.join('')}</div>
<h3>By timestep, at step ${now.step.toLocaleString('en')}</h3><p>Little noise at the top, where details are drawn; much noise below, where the layout is.</p>
<div class="columns">${bands.join('')}</div></section>`;
}

function ends({ low, high }: Interval): { low: number; high: number } {
  return { low, high };
}

export function scoresSection({ scores }: RunRecord): string {
  const now = last(scores);
  if (now === undefined) return '';
  const sets = [
    ['with the adapter', 'adapter', 'var(--blue)', false],
    ['another reference', 'shuffled', 'var(--orange)', true],
    ['no adapter', 'noAdapter', 'var(--muted)', true],
  ] as const;
  const measures: [name: string, key: keyof ScoreSet, shown: (value: number) => string][] = [
    ['Retrieval top-1', 'retrieval', percent],
    ['DINO', 'dino', cosine],
    ['CLIP-I', 'clipI', cosine],
    ['CLIP-T', 'clipT', cosine],
    ['Copies', 'copies', percent],
  ];
  const given = measures.filter(([, key]) => now.adapter[key] !== null);
  const chart = lineChart(
    sets.map(([name, key, colour, isDashed]): Series => {
      const points = scores.map((event) => {
        return {
          x: event.step,
          y: event[key].retrieval.mean,
          ...(isDashed ? {} : ends(event[key].retrieval)),
        };
      });
      return { name, colour, points, isDashed };
    }),
    {
      label: 'Retrieval top-1 over the steps',
      format: (value) => `${Math.round(100 * value)} %`,
      includes: [0, 1],
    },
  );
  const cell = (value: Interval | null, shown: (value: number) => string): string =>
    value === null
      ? '<td>–</td>'
      : `<td>${shown(value.mean)}<small>${shown(value.low)} … ${shown(value.high)}</small></td>`;
  const rows = given.map(
    ([name, key, shown]) =>
      `<tr><th>${name}</th>${sets.map(([, set]) => cell(now[set][key], shown)).join('')}</tr>`,
  );
  return `<section><h2>What comes out</h2>
<p>Images generated for ${now.rows} held-out references, without text, and the share that is closest to its own reference. Chance is ${percent(1 / now.rows)}.</p>
${chart}
<h3>At step ${now.step.toLocaleString('en')}</h3>
<div class="wide"><table class="figures"><tr><th></th>${sets.map(([name]) => `<th>${name}</th>`).join('')}</tr>${rows.join('')}</table></div>
<p class="note">CLIP-I alone misleads: it rewards copies of the reference, and a sameness that fits every reference. Read it beside another reference, retrieval and copies.</p></section>`;
}

export function lossSection({ steps }: RunRecord): string {
  const points = steps.map(({ step, loss }) => ({ x: step, y: loss }));
  const decay = Math.min(0.98, 1 - 8 / Math.max(steps.length, 16));
  const loss = lineChart(
    [
      { name: 'each step', colour: 'var(--muted)', points, isBackground: true },
      { name: 'smoothed', colour: 'var(--blue)', points: smoothed(points, decay) },
    ],
    { label: 'Loss over the steps' },
  );
  const names = [
    ...new Set(
      steps.flatMap((event) => Object.keys(event).filter((key) => key.startsWith('loss_by_timestep/'))),
    ),
  ].sort();
  const bands = names.map((name, i): Series => {
    const key = name as `loss_by_timestep/${string}`;
    const points = steps.flatMap((event) =>
      event[key] === undefined ? [] : [{ x: event.step, y: event[key] }],
    );
    // One hue, from little noise to much.
    const share = names.length < 2 ? 0 : i / (names.length - 1);
    const colour = `color-mix(in oklab, var(--ramp-end) ${Math.round(100 * share)}%, var(--ramp-start))`;
    return { name: name.slice('loss_by_timestep/'.length), colour, points };
  });
  const norms = steps.map(({ step, grad_norm }) => ({ x: step, y: grad_norm })).filter(({ y }) => y > 0);
  const norm = lineChart(
    [
      { name: 'each step', colour: 'var(--muted)', points: norms, isBackground: true },
      { name: 'smoothed', colour: 'var(--blue)', points: smoothed(norms, decay) },
    ],
    { label: 'Norm of the gradients over the steps', isLog: true },
  );
  return `<section><h2>Loss</h2><p>Most of a step's loss depends on the timesteps that were drawn: it falls little even in a run that works. By range of timesteps it can be compared.</p>
${loss}
${bands.length > 0 ? `<h3>By timestep, smoothed</h3>${lineChart(bands, { label: 'Loss by range of timesteps' })}` : ''}
<h3>Norm of the gradients</h3>${norm}</section>`;
}

/** `down_blocks.0.attentions.1.transformer_blocks.0.attn2` → `down 0.1.0` */
function shortName(site: string): string {
  return site.replaceAll(/attentions\.|transformer_blocks\.|\.attn2$/g, '').replace(/_blocks?\./, ' ');
}

export function gaugeSection({ gains }: RunRecord): string {
  const [first, now] = [gains[0], last(gains)];
  if (first === undefined || now === undefined) return '';
  const bars = Object.entries(now.gauge).map(([site, y]) => {
    const before = first === now ? undefined : first.gauge[site];
    return { name: shortName(site), y, before };
  });
  const was = first === now ? '' : ` The mark is the value at step ${first.step.toLocaleString('en')}.`;
  return `<section><h2>Where the image acts</h2><p>The size of the image's attention beside the text's, at each layer, at step ${now.step.toLocaleString('en')}.${was} Far below 1 the image hardly counts there; far above, the text hardly does.</p>
${barChart(bars, { label: 'Image attention over text attention by layer', format: (value) => value.toFixed(2) })}</section>`;
}
