/** @file Watches the runs for `--on-event`: who has ended, and what verdicts fall. Runs that were started in a shell are watched too. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { VerdictEvent } from '../base/run-context.js';
import { runStateOf } from '../training/checkpoints/run-state.js';
import type { Runs } from './runs.js';

const POLL_MS = 2000;

/** What the command of `--on-event` is told. */
export type StudioEvent = { run: string; folder: string } & (
  | { type: 'end'; failed: boolean }
  | ({ type: 'verdict' } & Pick<VerdictEvent, 'step' | 'kind' | 'text'>)
);

/**
 * Watches until `signal` is aborted. What had happened before is not told.
 * @param isInQueue whether a run is one of the queue, which tells of its end itself
 */
export async function watchRuns(
  runs: Runs,
  isInQueue: (run: string) => boolean,
  onEvent: (event: StudioEvent) => void,
  signal: AbortSignal,
): Promise<void> {
  /** For each run that is going on: since when its verdicts are told, seconds since 1970, and whether the queue tells its end. */
  let running = new Map<string, { since: number; isQueued: boolean }>();
  while (!signal.aborted) {
    const stillRunning = new Map<string, { since: number; isQueued: boolean }>();
    for (const run of await runs.ids()) {
      const folder = join(runs.folder, run);
      const { isRunning } = runStateOf(folder);
      const known = running.get(run);
      if (!isRunning && known === undefined) continue;
      // An entry leaves the queue when its run ends, so it is asked for before.
      const { since, isQueued } = known ?? { since: (Date.now() - POLL_MS) / 1000, isQueued: isInQueue(run) };
      const { events } = await runs.metricsOf(run);
      const fallen = events.filter(
        (event): event is VerdictEvent => event.type === 'verdict' && (event as VerdictEvent).time > since,
      );
      for (const { step, kind, text } of fallen) onEvent({ type: 'verdict', run, folder, step, kind, text });
      if (isRunning) stillRunning.set(run, { since: fallen.at(-1)?.time ?? since, isQueued });
      else if (!isQueued) onEvent({ type: 'end', run, folder, failed: false });
    }
    running = stillRunning;
    await sleep(POLL_MS, undefined, { signal, ref: false }).catch(() => {});
  }
}
