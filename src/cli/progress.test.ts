import { WriteStream } from 'node:tty';
import { expect, it } from 'vitest';
import type { StepEvent } from '../base/run-context.js';
import { TrainProgress } from './progress.js';

it('does not take the first step, with all that is loaded in it, for the measure of those ahead', () => {
  const lines: string[] = [];
  const out = Object.create(WriteStream.prototype, {
    isTTY: { value: false },
    write: { value: (text: string) => lines.push(text) },
  }) as WriteStream;
  const progress = new TrainProgress(out);
  /** A step that is a group by itself. */
  const stepOf = (step: number, seconds: number): StepEvent => ({
    ...{ v: 1, type: 'step', step, total_steps: 101, time: 0, loss: 1, grad_norm: 1, 'lr/a': 1e-4 },
    ...{ 'speed/images_per_second': 8 / seconds, 'speed/step_seconds': seconds, 'speed/data_seconds': 0 },
  });
  progress.onEvent(stepOf(1, 160));
  for (let step = 2; step <= 101; step++) progress.onEvent(stepOf(step, 1));
  expect(lines[0]).toMatch(/^step 1\/101 .* 0\.05 images\/s {2}\? left$/m);
  expect(lines.at(-1)).toMatch(/^step 101\/101 .* 8\.00 images\/s {2}0:00 left$/m);

  lines.length = 0;
  new TrainProgress(out).onEvent(stepOf(101, 2));
  expect(lines[0]).toMatch(/ 4\.00 images\/s {2}0:00 left$/m);
});
