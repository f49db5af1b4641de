import { WriteStream } from 'node:tty';
import { expect, it } from 'vitest';
import { TrainProgress } from './progress.js';

it('does not take the first step, with all that is loaded in it, for the measure of those ahead', () => {
  const lines: string[] = [];
  const out = Object.create(WriteStream.prototype, {
    isTTY: { value: false },
    write: { value: (text: string) => lines.push(text) },
  }) as WriteStream;
  const progress = new TrainProgress(out);
  const report = { totalSteps: 101, losses: [1], learningRates: { a: 1e-4 }, images: 8 };
  progress.steps({ ...report, step: 1, seconds: 160 });
  for (let step = 2; step <= 101; step++) progress.steps({ ...report, step, seconds: 1 });
  expect(lines[0]).toMatch(/^step 1\/101 .* 0\.05 images\/s {2}\? left$/m);
  expect(lines.at(-1)).toMatch(/^step 101\/101 .* 8\.00 images\/s {2}0:00 left$/m);

  lines.length = 0;
  new TrainProgress(out).steps({ ...report, step: 101, seconds: 2 });
  expect(lines[0]).toMatch(/ 4\.00 images\/s {2}0:00 left$/m);
});
