/** @file The options of a run, how they differ from another's, and the command that does the same. */
import { useState } from 'preact/hooks';
import { api, json } from './api.js';
import { Empty, useLoaded } from './parts.js';

type Options = Readonly<Record<string, unknown>>;

export function OptionsTable({
  id,
  options,
  folder,
}: {
  id: string;
  options: Options | null;
  folder: string;
}) {
  const [other, setOther] = useState('');
  const [isCopied, setCopied] = useState(false);
  const { value: runs } = useLoaded(() => json(api.runs.$get()), 'options-runs');
  const { value: others } = useLoaded(
    async () =>
      other === ''
        ? null
        : ((await json(api.runs[':id'].$get({ param: { id: encodeURIComponent(other) } }))) as unknown as {
            options: Options | null;
          }),
    `options ${other}`,
  );
  if (options === null) return <Empty title="The run has not recorded its options yet" />;
  const theirs = others?.options ?? null;
  const names = [...new Set([...Object.keys(options), ...Object.keys(theirs ?? {})])];
  const isDifferent = (name: string): boolean =>
    theirs !== null && shown(options[name]) !== shown(theirs[name]);
  const command = `npx ip-adapter train --config ${quoted(`${folder}/config.yaml`)} --output-dir ${quoted(`${folder}-again`)}`;
  return (
    <section>
      <div class="tools">
        <code class="command">{command}</code>
        <button
          type="button"
          onClick={() => navigator.clipboard.writeText(command).then(() => setCopied(true))}
        >
          {isCopied ? 'Copied' : 'Copy'}
        </button>
        <label>
          <span class="hidden">Compare with the options of</span>
          <select value={other} onChange={(event) => setOther(event.currentTarget.value)}>
            <option value="">Compare with…</option>
            {(runs ?? [])
              .filter((run) => run.id !== id)
              .map((run) => (
                <option key={run.id}>{run.id}</option>
              ))}
          </select>
        </label>
      </div>
      <section class="scroll" aria-label="Options">
        <table>
          <thead>
            <tr>
              <th scope="col">Option</th>
              <th scope="col">{id}</th>
              {theirs !== null && <th scope="col">{other}</th>}
            </tr>
          </thead>
          <tbody>
            {names.map((name) => (
              <tr key={name} class={isDifferent(name) ? 'different' : ''}>
                <th scope="row">{name}</th>
                <td>{shown(options[name])}</td>
                {theirs !== null && <td>{shown(theirs[name])}</td>}
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </section>
  );
}

function shown(value: unknown): string {
  if (value === undefined) return '–';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
