/** @file Charts as inline SVG. Colours are CSS variables of the page, so that they follow light and dark. */

export interface Point {
  x: number;
  y: number;
  /** The ends of an interval. */
  low?: number;
  high?: number;
}

export interface Series {
  name: string;
  /** A CSS colour. */
  colour: string;
  points: readonly Point[];
  /** Drawn faint and without a name: values behind a smoothed line. */
  isBackground?: boolean;
  isDashed?: boolean;
}

export interface ChartOptions {
  /** What the numbers are, for screen readers. */
  label: string;
  format?: (value: number) => string;
  isLog?: boolean;
  /** Values that the axis has in any case. */
  includes?: readonly number[];
}

const [WIDTH, HEIGHT] = [640, 250];
const MARGIN = { left: 54, right: 22, top: 10, bottom: 26 };
/** A line has no more points: more are not seen. */
const MOST_POINTS = 320;

/** Returns a chart of lines over steps, with its legend. */
export function lineChart(series: readonly Series[], options: ChartOptions): string {
  const { label, format = compact, isLog = false, includes = [] } = options;
  const thinned = series.map((one) => ({ ...one, points: thin(one.points) }));
  const all = thinned.flatMap(({ points }) => points);
  if (all.length === 0) return '';
  const xs = all.map(({ x }) => x);
  const shown = (value: number): number => (isLog ? Math.log10(value) : value);
  const ys = [...all.flatMap(({ y, low = y, high = y }) => [low, high]), ...includes]
    .filter((value) => Number.isFinite(value) && (!isLog || value > 0))
    .map(shown);
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  const ticks = isLog ? logTicks(ys) : niceTicks(Math.min(...ys), Math.max(...ys), 5);
  const y0 = Math.min(...ys, ...ticks);
  const y1 = Math.max(...ys, ...ticks);
  const toX = (x: number): string =>
    fixed(MARGIN.left + ((x - x0) / (x1 - x0 || 1)) * (WIDTH - MARGIN.left - MARGIN.right));
  const toY = (y: number): string =>
    fixed(
      HEIGHT - MARGIN.bottom - ((shown(y) - y0) / (y1 - y0 || 1)) * (HEIGHT - MARGIN.top - MARGIN.bottom),
    );
  const unscaled = (tick: number): number => (isLog ? 10 ** tick : tick);
  const grid = ticks.map((tick) => {
    const y = toY(unscaled(tick));
    const isZero = tick === 0 && !isLog;
    return `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${y}" y2="${y}" class="${isZero ? 'zero' : 'grid'}"/><text x="${MARGIN.left - 8}" y="${y}" dy="0.32em" text-anchor="end">${format(unscaled(tick))}</text>`;
  });
  const marks = niceTicks(x0, x1, 6).filter((x) => x >= x0 && x <= x1 && Number.isInteger(x));
  const axis = marks.map(
    (x) => `<text x="${toX(x)}" y="${HEIGHT - 6}" text-anchor="middle">${x.toLocaleString('en')}</text>`,
  );
  const lines = thinned.map((one) => line(one, toX, toY, format));
  return `<figure>${legend(series)}<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escaped(label)}">${grid.join('')}${axis.join('')}${lines.join('')}</svg></figure>`;
}

function line(
  { name, colour, points, isBackground, isDashed }: Series,
  toX: (x: number) => string,
  toY: (y: number) => string,
  format: (value: number) => string,
): string {
  const path = points.map(({ x, y }, i) => `${i === 0 ? 'M' : 'L'}${toX(x)} ${toY(y)}`).join('');
  const withInterval = points.filter(({ low, high }) => low !== undefined && high !== undefined);
  const band =
    withInterval.length > 1
      ? `<path class="band" fill="${colour}" d="${withInterval.map(({ x, high = 0 }, i) => `${i === 0 ? 'M' : 'L'}${toX(x)} ${toY(high)}`).join('')}${[
          ...withInterval,
        ]
          .reverse()
          .map(({ x, low = 0 }) => `L${toX(x)} ${toY(low)}`)
          .join('')}Z"/>`
      : '';
  const dots =
    points.length <= 30 && !isBackground
      ? points.map(({ x, y, low, high }) => {
          const interval =
            low === undefined || high === undefined ? '' : ` (${format(low)} … ${format(high)})`;
          return `<circle cx="${toX(x)}" cy="${toY(y)}" r="3" fill="${colour}"><title>${escaped(name)}, step ${x}: ${format(y)}${interval}</title></circle>`;
        })
      : [];
  const style = isBackground ? ' class="behind"' : isDashed ? ' stroke-dasharray="5 4"' : '';
  return `${band}<path fill="none" stroke="${colour}"${style} d="${path}"/>${dots.join('')}`;
}

/** Returns the names of series. */
function legend(series: readonly Pick<Series, 'name' | 'colour' | 'isBackground'>[]): string {
  const named = series.filter(({ isBackground }) => !isBackground);
  if (named.length === 0 || (named.length === 1 && series.length > 1)) return '';
  return `<figcaption>${named.map(({ name, colour }) => `<span><i style="background:${colour}"></i>${escaped(name)}</span>`).join('')}</figcaption>`;
}

export interface Bar extends Point {
  name: string;
  colour?: string;
  /** A mark: an earlier value. */
  before?: number | undefined;
}

/** Returns horizontal bars from 0, with intervals where there are some. `x` is not used. */
export function barChart(bars: readonly Omit<Bar, 'x'>[], { label, format = compact }: ChartOptions): string {
  const values = bars.flatMap(({ y, low = y, high = y, before = y }) => [y, low, high, before, 0]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const share = (value: number): number => (100 * (value - low)) / (high - low || 1);
  const rows = bars.map((bar) => {
    const [start, end] = [Math.min(share(0), share(bar.y)), Math.max(share(0), share(bar.y))];
    const interval =
      bar.low === undefined || bar.high === undefined
        ? ''
        : `<u style="left:${fixed(share(bar.low))}%;width:${fixed(share(bar.high) - share(bar.low))}%"></u>`;
    const mark = bar.before === undefined ? '' : `<s style="left:${fixed(share(bar.before))}%"></s>`;
    const zero = low < 0 ? `<em style="left:${fixed(share(0))}%"></em>` : '';
    return `<li><span>${escaped(bar.name)}</span><div><b style="left:${fixed(start)}%;width:${fixed(end - start)}%;background:${bar.colour ?? 'var(--blue)'}"></b>${interval}${mark}${zero}</div><output>${format(bar.y)}</output></li>`;
  });
  return `<ul class="bars" aria-label="${escaped(label)}">${rows.join('')}</ul>`;
}

/** Returns the moving average of a column, seeded by its first value. @param decay per step */
export function smoothed(points: readonly Point[], decay: number): Point[] {
  let value: number | undefined;
  let weight = 0;
  return points.map(({ x, y }) => {
    value = value === undefined ? (1 - decay) * y : decay * value + (1 - decay) * y;
    weight = decay * weight + (1 - decay);
    return { x, y: value / weight };
  });
}

/** Keeps the first and the last of many points, and some between them. */
export function thin<T>(points: readonly T[], most = MOST_POINTS): T[] {
  if (points.length <= most) return [...points];
  return Array.from(
    { length: most },
    (_, i) => points[Math.round((i * (points.length - 1)) / (most - 1))] as T,
  );
}

function niceTicks(low: number, high: number, count: number): number[] {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) as number) * power;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** Powers of ten, or where there are fewer than two, the ends. */
function logTicks(values: readonly number[]): number[] {
  const [low, high] = [Math.floor(Math.min(...values)), Math.ceil(Math.max(...values))];
  return Array.from({ length: high - low + 1 }, (_, i) => low + i);
}

/** A number in at most four characters of digits. */
export function compact(value: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-4) return value.toExponential(0);
  return String(Number(value.toPrecision(2)));
}

function fixed(value: number): string {
  return String(Number(value.toFixed(1)));
}

export function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
