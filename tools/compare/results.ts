/**
 * @file Reads what a case has left in its folder, as arrays of numbers with names: the tensors of .safetensors files, the
 * pixels of PNG files, losses by step, scores. It reads safetensors by itself: the project's own reader is among what is
 * judged here.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import sharp from 'sharp';

interface Values {
  dtype: string;
  shape: readonly number[];
  bytes: Buffer;
}

/** By name: the file, and the place in it. */
export type Results = ReadonlyMap<string, Values>;

export async function readResults(folder: string): Promise<Results> {
  const results = new Map<string, Values>();
  if (!existsSync(folder)) return results;
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(folder, file);
    const read = file.endsWith('.png') ? readPng : readers.get(basename(file).replace(/^.*\.s/, '.s'));
    for (const [name, values] of (await read?.(path)) ?? []) results.set(`${file} ${name}`, values);
  }
  return results;
}

type Entries = [string, Values][];

/** By the name of a file, or its ending. */
const readers = new Map<string, (path: string) => Entries>([
  ['.safetensors', readTensors],
  ['metrics.jsonl', readLosses],
  ['evaluation.json', readScores],
]);

/** huggingface/safetensors: the header's length in 8 bytes, the header in JSON, the data. Metadata is left out. */
function readTensors(path: string): Entries {
  const file = readFileSync(path);
  const data = 8 + Number(file.readBigUInt64LE());
  const { __metadata__: _, ...tensors } = JSON.parse(file.toString('utf8', 8, data)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  return Object.entries(tensors).map(
    ([
      name,
      {
        dtype,
        shape,
        data_offsets: [from, to],
      },
    ]) => [name, { dtype, shape, bytes: file.subarray(data + from, data + to) }],
  );
}

async function readPng(path: string): Promise<Entries> {
  const { data, info } = await sharp(path).raw().toBuffer({ resolveWithObject: true });
  return [['pixels', { dtype: 'U8', shape: [info.height, info.width, info.channels], bytes: data }]];
}

function readLosses(path: string): Entries {
  const lines = readFileSync(path, 'utf8').trim().split('\n');
  return lines
    .map((line) => JSON.parse(line))
    .filter(({ loss }) => typeof loss === 'number')
    .map(({ step, loss }) => [`loss of step ${step}`, float64(loss)]);
}

function readScores(path: string): Entries {
  const scores = JSON.parse(readFileSync(path, 'utf8')).scores as Record<string, number>[];
  return scores.flatMap((row) =>
    Object.entries(row).map(([name, value]): Entries[number] => [
      `${name} at scale ${row.scale}`,
      float64(value),
    ]),
  );
}

const float64 = (value: number): Values => ({
  dtype: 'F64',
  shape: [],
  bytes: Buffer.from(Float64Array.of(value).buffer),
});

/** The first values that are not the same to the byte, in words; undefined where all are. */
export function firstDifference(expected: Results, received: Results): string | undefined {
  const names = new Set([...expected.keys(), ...received.keys()]);
  const differences = Array.from(names, (name) => difference(name, expected.get(name), received.get(name)));
  const differing = differences.filter((one) => one !== undefined);
  const more = differing.length > 1 ? ` (and ${differing.length - 1} more of ${names.size})` : '';
  return differing.length === 0 ? undefined : `${differing[0]}${more}`;
}

function difference(name: string, old: Values | undefined, now: Values | undefined): string | undefined {
  if (old === undefined || now === undefined) return `${name}: only the ${old ? 'old' : 'new'} tree has it`;
  const [was, is] = [old, now].map(({ dtype, shape }) => `${dtype} [${shape}]`);
  if (was !== is) return `${name}: ${was} became ${is}`;
  if (old.bytes.equals(now.bytes)) return undefined;
  const [before, after] = [numbers(old), numbers(now)];
  let largest = { index: 0, size: -1 };
  for (const [index, value] of before.entries()) {
    const size = Math.abs((after[index] as number) - value);
    if (size > largest.size) largest = { index, size };
  }
  const { index } = largest;
  return `${name}: ${before[index]} became ${after[index]} at element ${index}, the largest difference`;
}

function numbers({ dtype, bytes }: Values): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const read = elements[dtype];
  if (read === undefined) return [...bytes];
  return Array.from({ length: bytes.length / read.size }, (_, i) => read.at(view, i * read.size));
}

/** What safetensors calls them; the bytes of other types are compared as such. */
const elements: Record<string, { size: number; at(view: DataView, offset: number): number }> = {
  F64: { size: 8, at: (view, offset) => view.getFloat64(offset, true) },
  F32: { size: 4, at: (view, offset) => view.getFloat32(offset, true) },
  I64: { size: 8, at: (view, offset) => Number(view.getBigInt64(offset, true)) },
};
