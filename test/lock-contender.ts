/** @file A process that locks the folder that it is told, and keeps it until it is told to release it. */
import { lockRun, type RunLock } from '../src/training/checkpoints/run-lock.js';

let lock: RunLock | undefined;

process.on('message', async (message: string) => {
  if (message === 'release') {
    lock?.[Symbol.dispose]();
    lock = undefined;
    process.send?.('released');
    return;
  }
  try {
    lock = await lockRun(message);
    process.send?.('held');
  } catch (error) {
    process.send?.(String(error));
  }
});
process.send?.('ready');
