import { expect, it } from 'vitest';
import type { Batch } from '../data/data-loader.js';
import type { Examples } from '../data/examples.js';
import { type Tensor, tensor, tidy } from '../torch/index.js';
import { BatchesAhead } from './batches-ahead.js';
import type { Encoding } from './encodings/frozen-encoders.js';
import { BatchFailure } from './steps.js';

const batch = (row: number): Batch => ({ rows: [row] }) as unknown as Batch;

function aheadOf(batches: (Batch | BatchFailure)[]) {
  const calls: number[] = [];
  const made: Tensor[] = [];
  const encode = ({ rows }: Examples): Encoding => {
    const [row = 0] = rows;
    calls.push(row);
    if (row === 13) throw new Error('row 13');
    const rowsOf = tensor([row], [1]);
    made.push(rowsOf);
    return { rows: rowsOf };
  };
  const yielded = (async function* () {
    yield* batches;
  })();
  const ahead = new BatchesAhead({ latents: encode, text: encode, image: encode }, yielded);
  return { ahead, iterator: ahead[Symbol.asyncIterator](), calls, made };
}

it('encodes the next batch once, when it is asked to, and gives the tensors to the scope that takes them', async () => {
  const { ahead, iterator, calls, made } = aheadOf([batch(1), batch(2)]);
  const first = (await iterator.next()).value as Batch;
  expect(calls).toEqual([]);
  expect(tidy(() => ahead.encoders.latents(first).rows.toNumbers())).toEqual([1]);
  ahead.readNext();
  ahead.readNext();
  const second = (await iterator.next()).value as Batch;
  expect(calls).toEqual([1, 2, 2, 2]);
  for (const part of ['latents', 'text', 'image'] as const)
    expect(tidy(() => ahead.encoders[part](second).rows.toNumbers())).toEqual([2]);
  expect(calls).toHaveLength(4);
  expect(made.map(({ isDisposed }) => isDisposed)).toEqual([true, true, true, true]);
  ahead.readNext();
  expect((await iterator.next()).done).toBe(true);
});

it('leaves what fails to the step of its batch', async () => {
  const failure = new BatchFailure(new Error('unreadable'));
  const { ahead, iterator } = aheadOf([batch(13), failure]);
  ahead.readNext();
  const first = (await iterator.next()).value as Batch;
  expect(() => ahead.encoders.text(first)).toThrow('row 13');
  ahead.readNext();
  expect((await iterator.next()).value).toBe(failure);
});

it('releases what was encoded and not taken', async () => {
  const { ahead, iterator, made } = aheadOf([batch(1)]);
  ahead.readNext();
  await iterator.next();
  expect(made.map(({ isDisposed }) => isDisposed)).toEqual([false, false, false]);
  ahead[Symbol.dispose]();
  expect(made.map(({ isDisposed }) => isDisposed)).toEqual([true, true, true]);
});
