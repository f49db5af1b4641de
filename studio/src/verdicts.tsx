/** @file What a run's measures say in words. */
import type { GainEvent, VerdictEvent } from '../../src/base/run-context.js';
import type { MetricsLine } from '../../src/studio/scalars.js';
import { count, figure } from './format.js';

const statements: Readonly<Record<string, [tone: string, text: string]>> = {
  'uses the image': ['good', 'The adapter uses its image.'],
  harms: ['bad', 'With the adapter, predictions are worse than without it.'],
  'ignores the image': ['bad', 'The adapter has learnt, but the same from every image.'],
  unclear: ['', 'It is not clear yet whether the adapter uses its image.'],
};

/** Verdicts that are not of the gain, the newest of each kind. */
export function OtherVerdicts({ events }: { events: readonly MetricsLine[] }) {
  const said = events.filter(
    (event): event is VerdictEvent =>
      event.type === 'verdict' && !((event as VerdictEvent).kind in statements),
  );
  const newest = [...new Map(said.map((event) => [event.kind, event])).values()];
  return (
    <>
      {newest.map(({ kind, step, text }) => (
        <p key={kind} class={`verdict-line ${kind.endsWith('drifts') ? 'bad' : ''}`}>
          <strong>{`${kind[0]?.toUpperCase()}${kind.slice(1)}.`}</strong> Step {count(step)}:{' '}
          {text.replace(/^Step \d+: /, '')}
        </p>
      ))}
    </>
  );
}

export function GainVerdict({ events }: { events: readonly MetricsLine[] }) {
  const last = events.findLast((event): event is GainEvent => event.type === 'gain');
  if (last === undefined) return null;
  const [tone, text] = statements[last.verdict] ?? ['', last.verdict];
  const { mean, low, high } = last.specificity;
  return (
    <p class={`verdict-line ${tone}`}>
      <strong>{text}</strong> On {last.rows} held-out rows after step {count(last.step)}, the right image
      lowers the loss by {figure(mean)} ({figure(low)} … {figure(high)}) against another row's.
    </p>
  );
}
