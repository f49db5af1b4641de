/** @file Notifications by the browser, while a page of the studio is open: a run has ended, or a verdict on it has fallen. */
import { useEffect, useState } from 'preact/hooks';
import type { RunSummary } from '../../src/studio/runs.js';
import { api, json } from './api.js';

const EVERY_MS = 5000;
const storeKey = 'ip-adapter-studio-notify';
const changed = 'notify-changed';

/** Browsers have them on localhost and behind https only. */
const isPossible = 'Notification' in window;

function isWanted(): boolean {
  return isPossible && Notification.permission === 'granted' && localStorage.getItem(storeKey) === 'yes';
}

function useWanted(): boolean {
  const [wanted, setWanted] = useState(isWanted);
  useEffect(() => {
    const update = (): void => setWanted(isWanted());
    addEventListener(changed, update);
    return () => removeEventListener(changed, update);
  }, []);
  return wanted;
}

export function NotifyButton() {
  const wanted = useWanted();
  if (!isPossible) return null;
  const toggle = async (): Promise<void> => {
    const isGranted = wanted || (await Notification.requestPermission()) === 'granted';
    localStorage.setItem(storeKey, isGranted && !wanted ? 'yes' : 'no');
    dispatchEvent(new Event(changed));
  };
  return (
    <button type="button" aria-pressed={wanted} onClick={toggle}>
      {wanted ? 'Notifies you' : 'Notify me'}
    </button>
  );
}

/** Watches every run, whichever page is shown. What had happened before is not told. */
export function Notifier() {
  const wanted = useWanted();
  useEffect(() => {
    if (!wanted) return;
    let known: ReadonlyMap<string, RunSummary> | undefined;
    const look = async (): Promise<void> => {
      const runs = (await json(api.runs.$get()).catch(() => undefined)) as RunSummary[] | undefined;
      if (runs === undefined) return;
      for (const run of runs)
        for (const text of newsOf(known?.get(run.id), run)) new Notification(run.id, { body: text });
      known = new Map(runs.map((run) => [run.id, run]));
    };
    void look();
    const timer = setInterval(look, EVERY_MS);
    return () => clearInterval(timer);
  }, [wanted]);
  return null;
}

function newsOf(before: RunSummary | undefined, now: RunSummary): string[] {
  if (before === undefined) return [];
  const hasEnded = before.status === 'running' && ['finished', 'stopped', 'failed'].includes(now.status);
  const { said } = now;
  const isNew = said !== null && (said.step !== before.said?.step || said.kind !== before.said.kind);
  return [...(hasEnded ? [`The run has ${now.status}.`] : []), ...(isNew ? [said.text] : [])];
}
