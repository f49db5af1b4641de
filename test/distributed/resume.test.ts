/** @file Processes that do not share the folders of outputs and caches: each has a working folder of its own, as on hosts of their own. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { readSafetensors } from '../../src/formats/index.js';
import { ipAdapter } from '../e2e/command.js';
import { makeWorld } from '../e2e/world.js';
import { byFile, type RankEnded, startRanks } from './ranks.js';
import { bytesOf, run, trainWords } from './runs.js';

/** Returns the keys of all entries of a cache, by its part. */
function entriesOf(cache: string): Record<string, string[]> {
  const files = (readdirSync(cache, { recursive: true }) as string[]).filter((name) =>
    name.endsWith('.safetensors'),
  );
  const parts: Record<string, string[]> = {};
  for (const file of files) {
    const { keys = '' } = readSafetensors(join(cache, file)).metadata;
    parts[dirname(file)] = [...(parts[dirname(file)] ?? []), ...keys.split(' ')].sort();
  }
  return parts;
}

it('each host fills its own cache, and rank 0 sends its checkpoint to those that do not have it', async () => {
  const world = await makeWorld(8);
  try {
    const folders = ['a', 'b'].map((name) => join(world.root, name));
    for (const folder of folders) mkdirSync(folder);
    const options = {
      ...{ save_steps: 2, rows: 4, train_batch_size: 2, cache: 'image,latents,text', cache_dir: 'cache' },
      ...{ validation_split: 2, validation_scores: 2, validation_sampling_steps: 1, keep_best: 'gain' },
    };
    const words = (steps: number) =>
      trainWords(world, 'out', { ...options, max_train_steps: steps, output_dir: 'out', resume: 'auto' });
    const trained = async (steps: number): Promise<RankEnded[]> => {
      const ranks = startRanks([ipAdapter, ...words(steps), '--use_ema'], hosts(), [], folders);
      return await Promise.all(ranks.map(({ ended }) => ended));
    };
    const hosts = () => byFile(2).map((env) => ({ ...env, LOCAL_RANK: '0', LOCAL_WORLD_SIZE: '1' }));
    const succeeds = (ranks: RankEnded[]) =>
      expect(
        ranks.map(({ code }) => code),
        ranks.map(({ err }) => err).join('\n'),
      ).toEqual([0, 0]);
    const first = await trained(2);
    succeeds(first);
    expect(first[0]?.err).toMatch(
      /Cache of image: not all hosts see .*each of them fills a cache of its own/,
    );
    const [entries, others] = folders.map((folder) => entriesOf(join(folder, 'cache')));
    // Of six rows, and what is dropped.
    expect(
      Object.values(entries ?? {})
        .map((keys) => keys.length)
        .sort(),
    ).toEqual([6, 7, 7]);
    expect(entries).toEqual(others);
    const resumed = await trained(4);
    succeeds(resumed);
    expect(resumed[0]?.err).toMatch(
      /out\/checkpoint-2 is not there for rank 1 \(process \d+ on \S+\): rank 0 sends it/,
    );
    expect(readdirSync(join(folders[1] as string, 'out'))).toEqual([]);

    const whole = trainWords(world, 'whole', {
      ...options,
      ...{ max_train_steps: 4, processes: 2, cache_dir: join(world.root, 'cache') },
    });
    const { exitCode, stderr } = await run([...whole, '--use_ema']);
    expect(exitCode, stderr).toBe(0);
    for (const file of ['optimizer.safetensors', 'ip_adapter.safetensors', 'ip_adapter_ema.safetensors'])
      expect(bytesOf(world, 'a/out', 4, file).equals(bytesOf(world, 'whole', 4, file)), file).toBe(true);

    // Another checkpoint of the same name is not taken for it.
    rmSync(join(folders[0] as string, 'out', 'checkpoint-4'), { recursive: true });
    const stale = join(folders[1] as string, 'out', 'checkpoint-2');
    mkdirSync(stale, { recursive: true });
    const again = await trained(4);
    succeeds(again);
    expect(again[0]?.err).toMatch(/rank 0 sends it/);
    expect(bytesOf(world, 'a/out', 4).equals(bytesOf(world, 'whole', 4))).toBe(true);

    // Rank 1 does not see that the last step was measured already, and must not wait for rank 0 to measure it.
    succeeds(await trained(4));
  } finally {
    world.remove();
  }
}, 180_000);
