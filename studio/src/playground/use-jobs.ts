/** @file Follows the playground's jobs while there are any that have not ended. */
import { useCallback, useEffect, useState } from 'preact/hooks';
import type { PlaygroundJob } from '../../../src/studio/playground.js';
import { api, json } from '../api.js';

const BUSY_MS = 400;
const IDLE_MS = 4000;

export function isActive({ status }: PlaygroundJob): boolean {
  return status === 'waiting' || status === 'running';
}

export function useJobs(): { jobs: readonly PlaygroundJob[]; reload: () => void } {
  const [jobs, setJobs] = useState<readonly PlaygroundJob[]>([]);
  const [asked, setAsked] = useState(0);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    const load = async (): Promise<void> => {
      const now = await json(api.playground.jobs.$get()).catch(() => undefined);
      if (isOver) return;
      if (now !== undefined) setJobs(now as PlaygroundJob[]);
      timer = setTimeout(load, (now as PlaygroundJob[] | undefined)?.some(isActive) ? BUSY_MS : IDLE_MS);
    };
    void load();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [asked]);
  return { jobs, reload: useCallback(() => setAsked((now) => now + 1), []) };
}
