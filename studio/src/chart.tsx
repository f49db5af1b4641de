/**
 * @file A chart of curves over steps: drag to zoom, Shift-drag to pan, wheel to zoom at the pointer, double-click for all; by
 * keyboard + and - zoom, arrows pan, and 0 shows all.
 */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { figure } from './format.js';

export interface ChartCurve {
  label: string;
  steps: readonly number[];
  values: readonly number[];
  /** The name of a colour of style.css, or a colour. */
  color: string;
  /** Drawn thin and pale, behind the others. */
  isFaint?: boolean;
}

interface Props {
  title: string;
  curves: readonly ChartCurve[];
  /** Below the title. */
  note?: string | undefined;
}

const HEIGHT = 200;

export function Chart({ title, curves, note }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>();
  const shape = curves.map(({ label, color }) => `${label} ${color}`).join('|');
  const last = curves.findLast(({ isFaint, values }) => !isFaint && values.length > 0);

  // Of many curves, the last value of one says nothing.
  const isGroup = curves.filter(({ isFaint }) => !isFaint).length > 3;

  useEffect(() => {
    const element = holder.current;
    if (element === null) return;
    const create = (): void => {
      plot.current?.destroy();
      plot.current = new uPlot(optionsOf(element, curves), joined(curves), element);
    };
    create();
    const resize = new ResizeObserver(() =>
      plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }),
    );
    resize.observe(element);
    // Colours come from the style sheet.
    const theme = new MutationObserver(create);
    theme.observe(document.documentElement, { attributeFilter: ['data-theme'] });
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    scheme.addEventListener('change', create);
    return () => {
      resize.disconnect();
      theme.disconnect();
      scheme.removeEventListener('change', create);
      plot.current?.destroy();
      plot.current = undefined;
    };
  }, [shape]);

  useEffect(() => {
    const current = plot.current;
    if (current === undefined) return;
    const isZoomed = isZoomedIn(current);
    const { min, max } = current.scales.x ?? {};
    current.setData(joined(curves), !isZoomed);
    if (isZoomed && min !== undefined && max !== undefined) current.setScale('x', { min, max });
  }, [curves]);

  return (
    <figure class="chart">
      <figcaption>
        <h2>{title}</h2>
        {last !== undefined && !isGroup && <output>{figure(last.values.at(-1) as number)}</output>}
        {note !== undefined && <p>{note}</p>}
      </figcaption>
      <div
        ref={holder}
        role="img"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it is zoomed by keyboard
        tabIndex={0}
        onKeyDown={(event) => {
          if (plot.current === undefined || !moveByKey(plot.current, event)) return;
          event.preventDefault();
        }}
        aria-label={`${title}: ${last === undefined ? 'no values yet' : `${figure(last.values.at(-1) as number)} at step ${last.steps.at(-1)}`}`}
      />
      {curves.length > 1 && (
        <ul class="legend">
          {curves
            .filter(({ isFaint }) => !isFaint)
            .map(({ label, color }) => (
              <li key={label}>
                <i style={{ background: color.includes('(') ? color : `var(--${color})` }} />
                {label}
              </li>
            ))}
        </ul>
      )}
    </figure>
  );
}

function isZoomedIn({ data, scales }: uPlot): boolean {
  const [steps] = data;
  const { min, max } = scales.x ?? {};
  if (steps.length === 0 || min == null || max == null) return false;
  return min > (steps[0] as number) || max < (steps.at(-1) as number);
}

/** Returns the curves with their steps joined, as uPlot takes them. */
function joined(curves: readonly ChartCurve[]): uPlot.AlignedData {
  const [first] = curves;
  if (first === undefined) return [[]];
  const areAligned = curves.every(
    ({ steps }) => steps.length === first.steps.length && steps.at(-1) === first.steps.at(-1),
  );
  if (areAligned) return [first.steps as number[], ...curves.map(({ values }) => values as number[])];
  return uPlot.join(curves.map(({ steps, values }) => [steps as number[], values as number[]]));
}

function optionsOf(element: HTMLElement, curves: readonly ChartCurve[]): uPlot.Options {
  const style = getComputedStyle(element);
  const color = (name: string): string =>
    name.includes('(') ? name : style.getPropertyValue(`--${name}`).trim();
  const axis: uPlot.Axis = {
    stroke: color('muted'),
    grid: { stroke: color('line'), width: 1 },
    ticks: { show: false },
    font: `11px ${style.fontFamily}`,
  };
  return {
    width: Math.max(120, element.clientWidth),
    height: HEIGHT,
    legend: { show: false },
    scales: { x: { time: false } },
    axes: [
      { ...axis, space: 70, size: 26 },
      { ...axis, size: 58, values: (_, splits) => splits.map((one) => (one === null ? '' : figure(one))) },
    ],
    cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false } },
    series: [
      {},
      ...curves.map(
        ({ label, color: name, isFaint, values }): uPlot.Series => ({
          label,
          stroke: color(name),
          width: isFaint ? 1 : 1.75,
          alpha: isFaint ? 0.28 : 1,
          spanGaps: true,
          points: { show: values.length < 40 },
        }),
      ),
    ],
    plugins: [wheelAndPan(), readout()],
  };
}

/** The values under the pointer. */
function readout(): uPlot.Plugin {
  const box = document.createElement('div');
  box.className = 'readout';
  return {
    hooks: {
      init: (u) => void u.over.append(box),
      setCursor: (u) => {
        const { idx, left = -1 } = u.cursor;
        box.hidden = idx == null || left < 0;
        if (idx == null) return;
        const lines = u.series.slice(1).flatMap(({ label }, i) => {
          const value = u.data[i + 1]?.[idx];
          return value == null ? [] : [`${String(label)}: ${figure(value)}`];
        });
        box.textContent = [`step ${u.data[0][idx]}`, ...lines].join('\n');
        box.style.left = left > u.over.clientWidth / 2 ? '4px' : 'auto';
        box.style.right = left > u.over.clientWidth / 2 ? 'auto' : '4px';
      },
    },
  };
}

/** Shows the steps from min to max, or as many of those that there are. */
function move(u: uPlot, min: number, max: number): void {
  const [steps] = u.data;
  const [first = 0, last = 1] = [steps[0], steps.at(-1)];
  const width = Math.min(max - min, last - first);
  const start = Math.min(Math.max(min, first), last - width);
  u.setScale('x', { min: start, max: start + width });
}

/** How far a key moves the two ends of what is shown, in shares of it. */
const keys: Readonly<Record<string, readonly [min: number, max: number]>> = {
  '+': [0.15, -0.15],
  '=': [0.15, -0.15],
  '-': [-0.25, 0.25],
  ArrowLeft: [-0.15, -0.15],
  ArrowRight: [0.15, 0.15],
};

/** @returns whether the key moves a chart */
function moveByKey(u: uPlot, { key, ctrlKey, metaKey, altKey }: KeyboardEvent): boolean {
  const { min, max } = u.scales.x ?? {};
  if (ctrlKey || metaKey || altKey || min == null || max == null) return false;
  const [from, to] = keys[key] ?? (key === '0' ? [-1e9, 1e9] : [0, 0]);
  if (from === to && from === 0) return false;
  move(u, min + from * (max - min), max + to * (max - min));
  return true;
}

function wheelAndPan(): uPlot.Plugin {
  return {
    hooks: {
      ready: (u) => {
        u.over.addEventListener(
          'wheel',
          (event) => {
            if (!event.ctrlKey && !event.shiftKey) return;
            event.preventDefault();
            const { min = 0, max = 1 } = u.scales.x ?? {};
            const at = u.posToVal(event.offsetX, 'x');
            const factor = event.deltaY + event.deltaX < 0 ? 0.8 : 1.25;
            move(u, at - (at - (min ?? 0)) * factor, at + ((max ?? 1) - at) * factor);
          },
          { passive: false },
        );
        u.over.addEventListener(
          'mousedown',
          (event) => {
            if (!event.shiftKey) return;
            event.stopImmediatePropagation();
            const { min, max } = u.scales.x as { min: number; max: number };
            const [from, perPixel] = [event.clientX, (max - min) / u.over.clientWidth];
            const drag = (now: MouseEvent): void => {
              const by = (from - now.clientX) * perPixel;
              move(u, min + by, max + by);
            };
            const stop = (): void => {
              removeEventListener('mousemove', drag);
              removeEventListener('mouseup', stop);
            };
            addEventListener('mousemove', drag);
            addEventListener('mouseup', stop);
          },
          { capture: true },
        );
      },
    },
  };
}
