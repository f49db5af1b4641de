/** @file A small dataset for tests of the data loader: images of 8 × 6 pixels whose red channel tells which one it is. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { type Batch, DataLoader, type DataLoaderOptions } from '../src/data/data-loader.js';
import { ImageProcessor } from '../src/images/image-processor.js';
import { fileSource } from '../src/images/image-source.js';
import { ClipTokenizer } from '../src/models/clip/clip-tokenizer.js';

const BOS = '<|startoftext|>';
const EOS = '<|endoftext|>';
/** The number of images. */
export const COUNT = 23;

export interface LoaderDataset {
  dir: string;

  imageProcessor: ImageProcessor;
  fileOf(image: number): string;
  /** Returns a loader over the images; `files` replaces those of some rows. */
  loader(change?: Partial<DataLoaderOptions>, files?: Record<number, string>, count?: number): DataLoader;
  remove(): void;
}

/** Writes the images and a small CLIP tokenizer into a temporary folder. */
export async function createLoaderDataset(): Promise<LoaderDataset> {
  const dir = mkdtempSync(join(tmpdir(), 'ip-adapter-loader-'));
  writeFileSync(join(dir, 'vocab.json'), JSON.stringify({ a: 0, 'a</w>': 1, [BOS]: 2, [EOS]: 3 }));
  writeFileSync(join(dir, 'merges.txt'), '#version: 0.2\n');
  writeFileSync(join(dir, 'tokenizer_config.json'), JSON.stringify({ model_max_length: 6 }));
  const tokenizer = ClipTokenizer.load(dir);
  const imageProcessor = ImageProcessor.load(dir, 4);
  const fileOf = (image: number): string => join(dir, `${image}.png`);
  for (let i = 0; i < COUNT; i++) {
    const raw = { width: 8, height: 6, channels: 3 as const };
    const pixels = Uint8Array.from({ length: 8 * 6 * 3 }, (_, p) => (p % 3 === 0 ? 10 * i : 128));
    await sharp(pixels, { raw }).toFile(fileOf(i));
  }
  const loader: LoaderDataset['loader'] = (change = {}, files = {}, count = COUNT) => {
    const rows = Array.from({ length: count }, (_, i) => {
      const image = fileSource(files[i] ?? fileOf(i % COUNT));
      return { image, promptImage: image, captions: ['a '.repeat(i % 5)] };
    });
    const options = { resolution: 6, batchSize: 4, prefetch: 2, seed: 5 };
    return new DataLoader({ rows, tokenizer, imageProcessor, ...options, ...change });
  };
  return { dir, imageProcessor, fileOf, loader, remove: () => rmSync(dir, { recursive: true }) };
}

export async function collect(batches: AsyncIterable<Batch>): Promise<Batch[]> {
  const all: Batch[] = [];
  for await (const batch of batches) all.push(batch);
  return all;
}

export const rowsOf = (batches: readonly Batch[]): number[] => batches.flatMap((batch) => [...batch.rows]);
