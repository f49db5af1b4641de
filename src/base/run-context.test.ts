import { expect, it } from 'vitest';
import { type RunEvent, withContext } from './run-context.js';

it('gives events their version, in order', async () => {
  const events: RunEvent[] = [];
  const result = await withContext(
    { onEvent: (event) => events.push(event) },
    async ({ emit, onMessage }) => {
      onMessage('a');
      emit({ type: 'progress', done: 1, total: 2 });
      return 3;
    },
  );
  expect(result).toBe(3);
  expect(events).toEqual([
    { v: 1, type: 'message', text: 'a' },
    { v: 1, type: 'progress', done: 1, total: 2 },
  ]);
});

it('a hook that throws ends the work by its signal, and its error is the caller’s', async () => {
  const wrong = new Error('mine');
  const heard: string[] = [];
  let told = 0;
  const onEvent = () => {
    told++;
    throw wrong;
  };
  const released: string[] = [];
  const work = withContext({ onEvent }, async ({ signal, onMessage }) => {
    using _ = { [Symbol.dispose]: () => void released.push('held') };
    onMessage('a');
    onMessage('b');
    heard.push(String(signal.reason));
    return { [Symbol.dispose]: () => void released.push('result') };
  });
  await expect(work).rejects.toBe(wrong);
  expect([told, heard, released]).toEqual([1, ['Error: mine'], ['held', 'result']]);
  const later = withContext({ onEvent }, async ({ onMessage }) => {
    onMessage('a');
    throw new Error('what follows from it');
  });
  await expect(later).rejects.toBe(wrong);
});

it('passes the caller’s signal on, and the error of the work', async () => {
  const reason = new Error('enough');
  const { signal } = new AbortController();
  await withContext({ signal }, async (inner) => expect(inner.signal.aborted).toBe(false));
  await withContext({ signal: AbortSignal.abort(reason) }, async (inner) =>
    expect(inner.signal.reason).toBe(reason),
  );
  const fault = new Error('fault');
  await expect(withContext({}, async () => Promise.reject(fault))).rejects.toBe(fault);
});
