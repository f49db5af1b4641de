/** @file What a run would take, or why it is not possible. */
import type { DryRunResult } from '../../src/studio/dry-run.js';

export function DryRunReport({ tried: { isPossible, text } }: { tried: DryRunResult }) {
  const facts = isPossible ? factsOf(text) : [];
  const log = (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a text that scrolls must be reached by keyboard
    <pre class="log" tabIndex={0}>
      {text}
    </pre>
  );
  return (
    <section class="dry-run" aria-label="Dry run">
      <h2>{isPossible ? 'What the run takes' : 'The run is not possible so'}</h2>
      {facts.length === 0 ? (
        log
      ) : (
        <>
          <dl class="facts">
            {facts.map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
          <details class="problem">
            <summary>What each part takes</summary>
            {log}
          </details>
        </>
      )}
    </section>
  );
}

/** The last lines of the report of `train --dry-run`: names, two spaces or more, values. */
function factsOf(text: string): [name: string, value: string][] {
  const last = text.slice(text.lastIndexOf('\n\n') + 2).split('\n');
  return last.flatMap((line): [string, string][] => {
    const [, name, value] = /^(\S+) {2,}(.+)$/.exec(line) ?? [];
    return name === undefined || value === undefined ? [] : [[name, value]];
  });
}

/** Returns what a run that is not possible says of options, which it names as `--batch-size (batchSize)`. */
export function faultsIn({ isPossible, text }: DryRunResult): Record<string, string> {
  if (isPossible) return {};
  return Object.fromEntries([...text.matchAll(/--[\w-]+ \((\w+)\)/g)].map(([, name]) => [name, text]));
}
