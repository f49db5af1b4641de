/** @file What a run's measures say in words. */
import type { GainEvent, VerdictEvent } from '../../src/base/run-context.js';
import type { MetricsLine } from '../../src/studio/scalars.js';
import { count, figure } from './format.js';

const statements: Readonly<Record<GainEvent['verdict'], [tone: string, text: string]>> = {
  'uses the image': ['good', 'The adapter uses its image.'],
  harms: ['bad', 'With the adapter, predictions are worse than without it.'],
  'ignores the image': ['bad', 'The adapter has learnt, but the same from every image.'],
  unclear: ['', 'It is not clear yet whether the adapter uses its image.'],
};

function isOfGain(kind: VerdictEvent['kind']): boolean {
  return kind in statements || kind === 'does not use the image yet';
}

/** The newest verdict of each kind: first what the gain on held-out rows says, then the others. */
export function Verdicts({ events }: { events: readonly MetricsLine[] }) {
  const verdicts = events.filter((event): event is VerdictEvent => event.type === 'verdict');
  const others = verdicts.filter(({ kind }) => !isOfGain(kind));
  const newest = [...new Map(others.map((event) => [event.kind, event])).values()];
  return (
    <>
      <GainVerdict
        measured={events.findLast((event): event is GainEvent => event.type === 'gain')}
        details={verdicts.findLast(({ kind }) => isOfGain(kind))?.text}
      />
      {newest.map(({ kind, step, text }) => (
        <p key={kind} class={`verdict-line ${kind.endsWith('drifts') ? 'bad' : ''}`}>
          <strong>{`${kind[0]?.toUpperCase()}${kind.slice(1)}.`}</strong> Step {count(step)}:{' '}
          {text.replace(/^Step \d+: /, '')}
        </p>
      ))}
    </>
  );
}

/** @param details the run's own words on it */
function GainVerdict({
  measured,
  details,
}: {
  measured: GainEvent | undefined;
  details: string | undefined;
}) {
  if (measured === undefined) return null;
  const { verdict, rows, step, gain } = measured;
  const [tone, text] = statements[verdict] ?? ['', verdict];
  return (
    <div class={`verdict-line ${tone}`}>
      <p>
        <strong>{text}</strong> On {rows} held-out rows after step {count(step)}, the gain is{' '}
        {figure(gain.mean)} ({figure(gain.low)} … {figure(gain.high)}).
      </p>
      {details !== undefined && (
        <details>
          <summary>Why, and what to do</summary>
          {details}
        </details>
      )}
    </div>
  );
}
