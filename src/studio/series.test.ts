import { expect, it } from 'vitest';
import { encodeSeries, Series } from './series.js';

it('averages neighbours of a long curve, and keeps its largest value', () => {
  const series = new Series();
  const count = 300_000;
  for (let step = 1; step <= count; step++) series.add(step, step === 1000 ? 7 : step % 2);
  expect(series.every).toBe(4);
  expect(series.steps.length).toBe(count / 4);
  expect([...series.steps.slice(0, 3)]).toEqual([4, 8, 12]);
  expect([...series.values.slice(0, 3)]).toEqual([0.5, 0.5, 0.5]);
  expect(series.values[249]).toBe((1 + 0 + 1 + 7) / 4);
  expect(series.largest).toEqual({ step: 1000, value: 7 });
});

it('is encoded as its header says', () => {
  const series = new Series();
  for (let step = 1; step <= 1000; step++) series.add(step, step / 2);
  const bytes = encodeSeries(new Map([['gain', series]]), { position: '1-2' });
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  const length = new DataView(buffer).getUint32(0, true);
  expect(JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)))).toEqual({
    position: '1-2',
    series: [{ name: 'gain', length: 1000, every: 1 }],
  });
  expect([...new Uint32Array(buffer, 4 + length, 1000)]).toEqual([...series.steps]);
  expect([...new Float32Array(buffer, 4 + length + 4000, 1000)]).toEqual([...series.values]);
});
