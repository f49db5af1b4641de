import { existsSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { start } from './command.js';
import { flagsOf, makeWorld, type World } from './world.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());
const flags = (changes: Record<string, string | undefined>): string[] => flagsOf(world, changes);

describe('ip-adapter train, interrupted', () => {
  it('killed and resumed, it ends bit-exactly as if it had not been killed', async () => {
    const run = (name: string): string[] => [
      'train',
      ...flags({ output_dir: join(world.root, name) }),
      '--max-steps',
      '20',
      '--save-steps',
      '10',
    ];
    const whole = await start(run('whole'));
    expect(whole.code).toBe(0);
    const killed = await start(run('killed'), (text, child) => {
      if (text.includes('checkpoint-10')) child.kill('SIGKILL');
    });
    expect(killed.signal).toBe('SIGKILL');
    // A kill leaves either no trace of the step under way, or a half-written folder under another name.
    expect(existsSync(join(world.root, 'killed', 'checkpoint-10'))).toBe(true);
    rmSync(join(world.root, 'killed', 'checkpoint-20'), { recursive: true, force: true });
    const resumed = await start([...run('killed'), '--resume']);
    expect(resumed.err).toContain('from step 10');
    for (const file of ['ip_adapter.safetensors', 'optimizer.safetensors']) {
      const [a, b] = ['whole', 'killed'].map((name) =>
        readFileSync(join(world.root, name, 'checkpoint-20', file)),
      ) as [Buffer, Buffer];
      expect(Buffer.compare(a, b)).toBe(0);
    }
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)(
    '%s ends the step, writes a checkpoint and says how to resume, with exit code %d',
    async (name, exitCode) => {
      const out = join(world.root, name);
      let sent = false;
      const { code, err } = await start(
        ['train', ...flags({ output_dir: out }), '--save-steps', '2', '--epochs', '100000'],
        (text, child) => {
          if (!sent && text.includes('checkpoint-2')) sent = child.kill(name);
        },
      );
      expect(code).toBe(exitCode);
      const step = Number(/Stopped after step (\d+)\. .*--resume \S+checkpoint-\1\n/.exec(err)?.[1]);
      expect(existsSync(join(out, `checkpoint-${step}`, 'ip_adapter.safetensors'))).toBe(true);
      const resumed = await start([
        'train',
        ...flags({ output_dir: out }),
        '--max-steps',
        String(step + 1),
        '--resume',
      ]);
      expect(resumed.out.trim()).toBe(join(out, `checkpoint-${step + 1}`));
    },
  );

  it('keeps what it encoded: killed while it fills the cache it continues, and the next run encodes nothing', async () => {
    const run = (name: string): string[] => [
      'train',
      ...flags({ output_dir: join(world.root, name), cache_dir: join(world.root, 'cache') }),
      '--cache',
      'latents,text,image',
      '--max-steps',
      '2',
    ];
    const killed = await start(run('cached'), (text, child) => {
      if (text.includes('Cache of image: 8 to encode')) child.kill('SIGKILL');
    });
    expect(killed.signal).toBe('SIGKILL');
    const again = await start(run('cached'));
    expect(again.err).toMatch(
      /latents: complete, 0 newly[\s\S]*image: complete, 8 newly encoded and 1 for[\s\S]*text: complete, 8 newly encoded and 1/,
    );
    expect(again.out.trim()).toBe(join(world.root, 'cached', 'checkpoint-2'));
    const other = await start(run('cached too'));
    expect(other.err).toMatch(
      /latents: complete, 0 newly[\s\S]*image: complete, 0 newly[\s\S]*text: complete, 0/,
    );
    for (const file of ['ip_adapter.safetensors', 'optimizer.safetensors']) {
      const [a, b] = ['cached', 'cached too'].map((name) =>
        readFileSync(join(world.root, name, 'checkpoint-2', file)),
      ) as [Buffer, Buffer];
      expect(Buffer.compare(a, b)).toBe(0);
    }
  });

  it('skips a corrupt image, counts it and names it', async () => {
    const own = await makeWorld(6);
    try {
      truncateSync(join(own.root, 'images', '2.png'), 60);
      const { code, err } = await start(['train', ...own.flags, '--epochs', '1']);
      expect(code).toBe(0);
      expect(err).toMatch(/Skipped .*2\.png: it is damaged/);
      expect(err).toContain('1 row was skipped');
    } finally {
      own.remove();
    }
  });
});
