/** @file The two sides of a comparison: this checkout, and an older commit checked out and built beside it. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';

const root = join(import.meta.dirname, '../..');
const runFile = promisify(execFile);

/** A tree that can run commands, each in the side's own folder, so that both sides take the same words. */
export interface Side {
  name: 'old' | 'new';
  /** Where its commands run, and where their relative paths count from. */
  folder: string;
  /** Runs `ip-adapter …`. Throws an error with the last lines of its messages where it does not end well. */
  run(words: readonly string[]): Promise<void>;
}

/** This checkout, as it is on disk. */
export function currentSide(work: string, signal: AbortSignal): Side {
  return side('new', root, work, signal);
}

/** A commit in a git worktree of its own, built by its own set-up. `remove` takes the worktree away again. */
export async function checkOut(
  commit: string,
  work: string,
  signal: AbortSignal,
): Promise<{ side: Side; remove(): void }> {
  const tree = join(work, 'tree');
  const remove = (): void => {
    execFileSync('git', ['worktree', 'remove', '--force', tree], { cwd: root, stdio: 'ignore' });
  };
  await runFile('git', ['worktree', 'add', '--detach', tree, commit], { cwd: root, signal });
  try {
    // With another lock file, the commit's set-up installs packages of its own.
    const lock = 'package-lock.json';
    if (readFileSync(join(tree, lock)).equals(readFileSync(join(root, lock))))
      symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
    await runFile(process.execPath, ['setup.mjs'], { cwd: tree, signal });
    return { side: side('old', tree, work, signal), remove };
  } catch (error) {
    remove();
    throw error;
  }
}

function side(name: Side['name'], tree: string, work: string, signal: AbortSignal): Side {
  const { bin } = JSON.parse(readFileSync(join(tree, 'package.json'), 'utf8'));
  const program = join(tree, bin['ip-adapter']);
  const folder = join(work, name);
  mkdirSync(folder);
  return {
    name,
    folder,
    async run(words) {
      try {
        await runFile(process.execPath, [program, ...words], { cwd: folder, signal, maxBuffer: 2 ** 26 });
      } catch (error) {
        if (signal.aborted) throw error;
        const { stderr, code } = error as { stderr?: string; code?: number | string };
        const lines = (stderr ?? '').trim().split('\n').slice(-3).join('\n');
        throw new CommandError(`ip-adapter ${words[0]} of the ${name} tree ended with ${code}: ${lines}`);
      }
    },
  };
}

/** A command of either tree did not end well. */
export class CommandError extends Error {}
