/** @file The validation images of a run: reference × scale at a step, or step × scale of one reference. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Sheet } from '../../src/studio/sheets.js';
import { runPath } from './api.js';
import { count, figure } from './format.js';
import { ApiImage, Empty, useApiImage } from './parts.js';
import type { Curve } from './run-data.js';

type Layout = NonNullable<Sheet['layout']>;
type Curves = ReadonlyMap<string, Curve>;

interface Place {
  step: number;
  row: number;
  column: number;
}

/** A sheet is fetched no wider than this for the grid, and whole for one image of it. */
const GRID_WIDTH = 1600;

/** Numbers of a step that an image is looked at with. */
const figures: readonly [name: string, title: string][] = [
  ['loss', 'Loss'],
  ['gain', 'Gain'],
  ['gain/specificity', 'Specificity'],
  ['scores/retrieval', 'Retrieval'],
  ['scores/dino', 'DINO'],
  ['scores/clipI', 'CLIP-I'],
  ['scores/clipT', 'CLIP-T'],
  ['scores/copies', 'Copies'],
];

export function SampleGrid({ id, sheets, curves }: { id: string; sheets: readonly Sheet[]; curves: Curves }) {
  const [chosen, setChosen] = useState<number>();
  /** Of one reference at every step, its row. */
  const [only, setOnly] = useState<number>();
  const [shown, setShown] = useState<Place>();
  if (sheets.length === 0)
    return (
      <Empty title="No images yet">
        <p>
          A run draws them if it has validation images. <em>Sample now</em> draws a sheet at once.
        </p>
      </Empty>
    );
  const index = chosen === undefined ? sheets.length - 1 : sheets.findIndex(({ step }) => step === chosen);
  const sheet = sheets[Math.max(0, index)] as Sheet;
  const { layout } = sheet;
  const rows = layout?.rows ?? [];
  const isOverSteps = only !== undefined && only < rows.length;
  return (
    <section class="samples">
      <div class="tools">
        <label class="slider">
          <span>Step {count(sheet.step)}</span>
          <input
            type="range"
            min={0}
            max={sheets.length - 1}
            value={index}
            disabled={sheets.length === 1 || isOverSteps}
            aria-valuetext={`Step ${sheet.step}`}
            onInput={(event) => setChosen(sheets[event.currentTarget.valueAsNumber]?.step)}
          />
        </label>
        {rows.length > 0 && sheets.length > 1 && (
          <label>
            <span class="hidden">Rows of the grid</span>
            <select
              value={only ?? ''}
              onChange={({ currentTarget: { value } }) => setOnly(value === '' ? undefined : Number(value))}
            >
              <option value="">Every reference at one step</option>
              {rows.map((title, row) => (
                <option key={`${row} ${title}`} value={row}>
                  {`Every step of ${title}`}
                </option>
              ))}
            </select>
          </label>
        )}
      </div>
      {layout === undefined ? (
        <div class="sheet">
          <ApiImage
            path={runPath(id, `samples/${sheet.step}`)}
            alt={`Validation images after step ${sheet.step}`}
          />
        </div>
      ) : (
        <div class="grid-scroll">
          <table class="grid">
            <caption class="hidden">
              {isOverSteps
                ? `Validation images of ${rows[only]}`
                : `Validation images after step ${sheet.step}`}
            </caption>
            <thead>
              <tr>
                <td />
                {layout.columns.map((title) => (
                  <th key={title} scope="col">
                    {title}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {isOverSteps
                ? [...sheets]
                    .reverse()
                    .map((one) => (
                      <GridRow
                        key={one.step}
                        id={id}
                        sheet={one}
                        row={only}
                        title={count(one.step)}
                        onShow={setShown}
                      />
                    ))
                : rows.map((title, row) => (
                    <GridRow
                      key={`${row} ${title}`}
                      id={id}
                      sheet={sheet}
                      row={row}
                      title={title}
                      onShow={setShown}
                    />
                  ))}
            </tbody>
          </table>
        </div>
      )}
      {shown !== undefined && (
        <Enlarged
          id={id}
          sheets={sheets}
          place={shown}
          curves={curves}
          onMove={setShown}
          onClose={() => setShown(undefined)}
        />
      )}
    </section>
  );
}

function GridRow({
  id,
  sheet: { step, layout },
  row,
  title,
  onShow,
}: {
  id: string;
  sheet: Sheet;
  row: number;
  title: string;
  onShow: (place: Place) => void;
}) {
  const [isSeen, setSeen] = useState(false);
  const element = useRef<HTMLTableRowElement>(null);
  useEffect(() => {
    // A long run has many sheets, and few of them are on the screen.
    const observer = new IntersectionObserver(([entry]) => entry?.isIntersecting && setSeen(true), {
      rootMargin: '300px',
    });
    observer.observe(element.current as HTMLTableRowElement);
    return () => observer.disconnect();
  }, []);
  const { url } = useApiImage(isSeen ? runPath(id, `samples/${step}?width=${GRID_WIDTH}`) : undefined);
  return (
    <tr ref={element}>
      <th scope="row">{title}</th>
      {layout !== undefined &&
        row < layout.rows.length &&
        layout.columns.map((name, column) => (
          <td key={name}>
            <button
              type="button"
              class="cell"
              aria-label={`${layout.rows[row]}, ${name}, step ${step}`}
              onClick={() => onShow({ step, row, column })}
            >
              <Cell layout={layout} row={row} column={column} url={url} />
            </button>
          </td>
        ))}
    </tr>
  );
}

/** One image of a sheet. */
function Cell({
  layout,
  row,
  column,
  url,
}: {
  layout: Layout;
  row: number;
  column: number;
  url: string | undefined;
}) {
  const { cell, width, height, tops } = layout;
  const share = (at: number, whole: number, part: number): number =>
    whole === part ? 0 : (100 * at) / (whole - part);
  const style = {
    aspectRatio: `${cell.width} / ${cell.height}`,
    backgroundImage: url === undefined ? 'none' : `url(${url})`,
    backgroundSize: `${(100 * width) / cell.width}% ${(100 * height) / cell.height}%`,
    backgroundPosition: `${share(column * cell.width, width, cell.width)}% ${share(tops[row] as number, height, cell.height)}%`,
  };
  return <span class={`image ${cell.width < 128 ? 'pixels' : ''}`} style={style} />;
}

/** One image, as large as it fits, with the numbers of its step; arrow keys go to its neighbours. */
function Enlarged({
  id,
  sheets,
  place: { step, row, column },
  curves,
  onMove,
  onClose,
}: {
  id: string;
  sheets: readonly Sheet[];
  place: Place;
  curves: Curves;
  onMove: (place: Place) => void;
  onClose: () => void;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const at = sheets.findIndex((one) => one.step === step);
  const layout = sheets[at]?.layout;
  const { url } = useApiImage(runPath(id, `samples/${step}`));
  if (layout === undefined) return null;
  const move = (by: number, across: number): void => {
    const next = sheets[at + by];
    const columns = next?.layout?.columns.length ?? 0;
    if (next !== undefined && columns > 0 && row < (next.layout?.rows.length ?? 0))
      onMove({ step: next.step, row, column: Math.min(Math.max(0, column + across), columns - 1) });
  };
  const known = figures.flatMap(([name, title]) => {
    const value = valueAt(curves.get(name), step);
    return value === undefined ? [] : [[title, value] as const];
  });
  return (
    <dialog
      ref={dialog}
      class="enlarged"
      aria-label="Validation image"
      onClose={onClose}
      onClick={(event) => event.target === dialog.current && dialog.current?.close()}
      onKeyDown={(event) => {
        const moves: Record<string, [number, number]> = {
          ArrowLeft: [0, -1],
          ArrowRight: [0, 1],
          ArrowUp: [-1, 0],
          ArrowDown: [1, 0],
        };
        const by = moves[event.key];
        if (by === undefined) return;
        event.preventDefault();
        move(...by);
      }}
    >
      <Cell layout={layout} row={row} column={column} url={url} />
      <div class="about">
        <h2>{layout.rows[row]}</h2>
        <p class="sub">
          {layout.columns[column]}, step {count(step)}
        </p>
        <dl>
          {known.map(([title, { value, step: measured }]) => (
            <div key={title}>
              <dt>{title}</dt>
              <dd>
                {figure(value)} {measured !== step && <small>step {count(measured)}</small>}
              </dd>
            </div>
          ))}
        </dl>
        <p class="hint">← → another column, ↑ ↓ another step, Esc closes.</p>
        <div class="tools">
          <button type="button" disabled={at === 0} onClick={() => move(-1, 0)}>
            Step before
          </button>
          <button type="button" disabled={at === sheets.length - 1} onClick={() => move(1, 0)}>
            Step after
          </button>
          <button type="button" onClick={() => dialog.current?.close()}>
            Close
          </button>
        </div>
      </div>
    </dialog>
  );
}

/** Returns the last value of a curve up to a step. */
function valueAt(curve: Curve | undefined, step: number): { value: number; step: number } | undefined {
  const index = curve?.steps.findLastIndex((one) => one <= step) ?? -1;
  if (curve === undefined || index < 0) return undefined;
  return { value: curve.values[index] as number, step: curve.steps[index] as number };
}
