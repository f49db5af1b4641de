/** @file The charts of a run, and of others that are laid over it. */
import { useEffect, useMemo, useState } from 'preact/hooks';
import { scoreNames } from '../../src/studio/scalars.js';
import { api, json } from './api.js';
import { Chart, type ChartCurve } from './chart.js';
import { Empty, useLoaded } from './parts.js';
import { RunData, smooth } from './run-data.js';

const scoreTitles: Readonly<Record<(typeof scoreNames)[number], { title: string; note: string }>> = {
  retrieval: { title: 'Retrieval', note: 'Share of images whose own reference is the closest of all rows’.' },
  dino: { title: 'DINO', note: 'Similarity to the reference; tells apart things of the same name.' },
  clipI: { title: 'CLIP-I', note: 'Similarity to the reference; a copy of it has 1.' },
  clipT: { title: 'CLIP-T', note: 'Similarity to the caption.' },
  copies: { title: 'Copies', note: 'Share of images that copy their reference.' },
};

/** Of style.css, for the light and the dark page. */
const colors = ['accent', 'c2', 'c3', 'c4', 'c5', 'c6'];
/** Of other runs. The last ones are baselines' in charts that have some. */
const otherColors = ['c5', 'c6', 'c4', 'c3', 'c2'];

/** Returns the colour of one of several curves: from blue to red where they are many, and so in an order. */
function colorOf(i: number, count: number): string {
  return count <= colors.length ? (colors[i] as string) : `hsl(${230 - (230 * i) / (count - 1)} 60% 50%)`;
}

export function Curves({ id, data, version }: { id: string; data: RunData; version: number }) {
  const [weight, setWeight] = useState(0.9);
  const [others, setOthers] = useState<RunData[]>([]);
  const [names, setNames] = useState<string[]>([]);
  const { value: runs } = useLoaded(() => json(api.runs.$get()), 'overlay');
  useEffect(() => {
    const abort = new AbortController();
    const loaded = names.map((name) => new RunData(name));
    Promise.all(loaded.map((one) => one.load(abort.signal))).then(
      () => setOthers(loaded),
      () => setOthers([]),
    );
    return () => abort.abort();
  }, [names.join('|')]);

  const charts = useMemo(() => {
    const has = (name: string): boolean => (data.curves.get(name)?.values.length ?? 0) > 0;
    const curve = (name: string, label: string, color: string, isSmooth = false): ChartCurve[] => {
      const one = data.curves.get(name);
      if (one === undefined) return [];
      return [
        {
          label,
          color,
          steps: [...one.steps],
          values: isSmooth ? smooth(one.values, weight) : [...one.values],
        },
      ];
    };
    /** The same curve of other runs. */
    const ofOthers = (name: string, shown: (values: readonly number[]) => number[]): ChartCurve[] =>
      others.flatMap((other, i): ChartCurve[] => {
        const one = other.curves.get(name);
        if (one === undefined) return [];
        const color = otherColors[i % otherColors.length] as string;
        return [{ label: names[i] ?? '', color, steps: one.steps, values: shown(one.values) }];
      });
    const same = (values: readonly number[]): number[] => [...values];
    /** A curve with what it is the average of, and the same of other runs. */
    const compared = (name: string): ChartCurve[] => {
      const raw = data.curves.get(name);
      if (raw === undefined) return [];
      const faint: ChartCurve[] =
        weight === 0
          ? []
          : [
              {
                label: 'each step',
                color: 'accent',
                steps: [...raw.steps],
                values: [...raw.values],
                isFaint: true,
              },
            ];
      return [
        ...faint,
        ...ofOthers(name, (values) => smooth(values, weight)),
        ...curve(name, id, 'accent', true),
      ];
    };
    const group = (prefix: string): ChartCurve[] =>
      [...data.curves.keys()]
        .filter((name) => name.startsWith(prefix))
        .sort()
        .flatMap((name, i, all) =>
          curve(
            name,
            name.slice(prefix.length).replace(/\.transformer_blocks|\.attn2$/g, ''),
            colorOf(i, all.length),
          ),
        );
    const list: { title: string; note?: string; curves: ChartCurve[] }[] = [
      {
        title: 'Loss',
        note: 'Depends mostly on the timesteps drawn; compare by band.',
        curves: compared('loss'),
      },
      { title: 'Loss by band of timesteps', curves: group('loss_by_timestep/') },
    ];
    if (has('gain'))
      list.push({
        title: 'Gain on held-out rows',
        note: 'With its 95 % interval; above 0, the adapter uses its image.',
        curves: [
          ...curve('gain/low', 'low', 'c2'),
          ...curve('gain/high', 'high', 'c2'),
          ...ofOthers('gain', same),
          ...curve('gain', 'gain', 'accent'),
        ],
      });
    if (has('gain/specificity'))
      list.push({
        title: 'Specificity',
        note: "Lower loss than with another row's image.",
        curves: [
          ...curve('gain/specificity/low', 'low', 'c2'),
          ...curve('gain/specificity/high', 'high', 'c2'),
          ...ofOthers('gain/specificity', same),
          ...curve('gain/specificity', 'specificity', 'accent'),
        ],
      });
    const constant = (name: string): ChartCurve[] =>
      name === 'retrieval' ? curve('scores/chance', 'chance', 'c4') : [];
    for (const name of scoreNames)
      if (has(`scores/${name}`))
        list.push({
          title: scoreTitles[name].title,
          note: scoreTitles[name].note,
          curves: [
            ...constant(name),
            ...curve(`scores/${name}/no_adapter`, 'no adapter', 'c3'),
            ...curve(`scores/${name}/shuffled`, 'another reference', 'c2'),
            ...ofOthers(`scores/${name}`, same),
            ...curve(`scores/${name}`, 'adapter', 'accent'),
          ],
        });
    list.push({ title: 'Gradient norm', note: 'Before clipping.', curves: compared('grad_norm') });
    list.push({ title: 'Learning rate', curves: group('lr/') });
    list.push({
      title: 'Images per second',
      curves: [
        ...ofOthers('speed/images_per_second', same),
        ...curve('speed/images_per_second', 'images/s', 'accent'),
      ],
    });
    const memory = ['memory/rss_bytes', 'memory/gpu_allocated_bytes'].filter(has);
    list.push({
      title: 'Memory, GiB',
      curves: [
        ...ofOthers('memory/rss_bytes', (values) => values.map((value) => value / 2 ** 30)),
        ...memory.map((name, i) => {
          const one = data.curves.get(name) as { steps: number[]; values: number[] };
          const label = name.includes('gpu') ? 'GPU' : 'process';
          return {
            ...{ label, color: colors[i] as string, steps: [...one.steps] },
            values: one.values.map((value) => value / 2 ** 30),
          };
        }),
      ],
    });
    const gauge = group('gauge/');
    if (gauge.length > 0)
      list.push({
        title: 'Gauge by layer',
        note: 'Size of the image attention beside the text’s.',
        curves: gauge,
      });
    return list;
  }, [data, version, weight, others]);

  if ((data.curves.get('loss')?.values.length ?? 0) === 0)
    return (
      <Empty title="No steps yet">
        <p>Curves appear with the first steps, after the models are loaded. The log says how far it is.</p>
      </Empty>
    );
  const choices = (runs ?? []).map((run) => run.id).filter((one) => one !== id && !names.includes(one));
  return (
    <>
      <div class="tools">
        <label class="slider">
          <span>Smoothing {weight.toFixed(2)}</span>
          <input
            type="range"
            min={0}
            max={0.99}
            step={0.01}
            value={weight}
            onInput={(event) => setWeight(event.currentTarget.valueAsNumber)}
          />
        </label>
        {choices.length > 0 && (
          <label>
            <span class="hidden">Lay another run over it</span>
            <select
              value=""
              onChange={(event) =>
                event.currentTarget.value && setNames([...names, event.currentTarget.value])
              }
            >
              <option value="">Compare with…</option>
              {choices.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
        )}
        {names.map((name) => (
          <button
            key={name}
            type="button"
            class="chip"
            aria-label={`Remove ${name}`}
            onClick={() => setNames(names.filter((one) => one !== name))}
          >
            {name} ×
          </button>
        ))}
        <p class="hint pointer">
          Drag to zoom, Shift-drag to pan, Ctrl-wheel to zoom, double-click for all; by keyboard + − ← → 0.
        </p>
      </div>
      <div class="charts">
        {charts.map((chart) => (
          <Chart key={chart.title} {...chart} />
        ))}
      </div>
    </>
  );
}
