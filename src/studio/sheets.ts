/** @file Where the images are in the sheets of validation images that a run has drawn. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { cellOrigin } from '../images/labelled-sheet.js';

/** More images than a sheet can have are no sheet of this package. */
const MAX_CELLS = 10_000;
const titles = z.array(z.string()).min(1).max(MAX_CELLS);
const side = z.int().min(1).max(8192);

/** What a `SheetEvent` says that places need. */
const sheetSchema = z.object({ step: z.number(), width: side, height: side, columns: titles, rows: titles });

/** A sheet, and its images as fractions of its width and height. */
export interface Sheet {
  step: number;
  /** Undefined where the run does not say what is in the sheet, as older versions did not. */
  layout?: {
    /** Of an image, in pixels. */
    cell: { width: number; height: number };
    /** Of the sheet. */
    width: number;
    height: number;
    /** Titles. The first is the reference image, the second is the text alone. */
    columns: string[];
    rows: string[];
    /** The first pixel of each row. */
    tops: number[];
  };
}

/** Returns the steps that a run has drawn validation images of, in order. */
export async function samplesOf(folder: string): Promise<number[]> {
  const names = await readdir(join(folder, 'validation')).catch(() => []);
  return names
    .flatMap((name) => /^step-(\d+)\.png$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

/** @param events of sheets, by step, as a run has written them */
export async function sheetsOf(folder: string, events: ReadonlyMap<number, unknown>): Promise<Sheet[]> {
  return (await samplesOf(folder)).map((step) => {
    const { data } = sheetSchema.safeParse(events.get(step));
    if (data === undefined || data.columns.length * data.rows.length > MAX_CELLS) return { step };
    const { width, height, columns, rows } = data;
    const tops = rows.map((_, row) => cellOrigin({ width, height }, row, 0).top);
    return {
      step,
      layout: {
        ...{ cell: { width, height }, columns, rows, tops },
        ...{ width: width * columns.length, height: (tops.at(-1) as number) + height },
      },
    };
  });
}
