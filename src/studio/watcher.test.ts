import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { ownLockText } from '../training/checkpoints/lock-owner.js';
import { lockFile } from '../training/checkpoints/run-lock.js';
import { Runs } from './runs.js';
import { type StudioEvent, watchRuns } from './watcher.js';

const root = mkdtempSync(join(tmpdir(), 'watcher-'));
afterEach(() => rmSync(root, { recursive: true }));

it('tells the verdicts and the end of a run that was started in a shell, and nothing older', async () => {
  const folder = join(root, 'one');
  const metrics = join(folder, 'metrics.jsonl');
  const verdict = (step: number, time: number): string =>
    `${JSON.stringify({ v: 1, type: 'verdict', step, time, kind: 'uses the image', text: `at ${step}` })}\n`;
  mkdirSync(folder);
  writeFileSync(metrics, verdict(50, Date.now() / 1000 - 100));
  // The lock of a process that is alive: this one.
  symlinkSync(ownLockText(), join(folder, lockFile));
  const events: StudioEvent[] = [];
  const end = new AbortController();
  const watched = watchRuns(
    new Runs(root),
    () => false,
    (event) => void events.push(event),
    end.signal,
  );
  await new Promise((done) => setTimeout(done, 500));
  appendFileSync(metrics, verdict(100, Date.now() / 1000));
  const told = { type: 'verdict', run: 'one', folder, step: 100, kind: 'uses the image', text: 'at 100' };
  await vi.waitFor(() => expect(events).toEqual([told]), { timeout: 10_000 });
  unlinkSync(join(folder, lockFile));
  const ended = { type: 'end', run: 'one', folder, failed: false };
  await vi.waitFor(() => expect(events).toEqual([told, ended]), { timeout: 10_000 });
  end.abort();
  await watched;
});
