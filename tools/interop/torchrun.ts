/**
 * @file Trains under PyTorch's own torchrun, with the addon built on that PyTorch's LibTorch: two processes end with the bytes
 * of `--num-processes 2`, also where one is killed and torchrun starts both again. Building the addon takes minutes.
 *
 *     npm run interop:torchrun                       the Python of npm run interop
 *     npm run interop:torchrun -- --python PYTHON    a Python that has torch
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { flagsOf, makeWorld } from '../../test/e2e/world.js';
import { createPython, run } from './environment.js';

const { values } = parseArgs({ options: { python: { type: 'string' } } });
const root = join(import.meta.dirname, '../..');
const environment = join(root, 'build/interop');
mkdirSync(environment, { recursive: true });
const python = values.python ?? createPython(environment);
const [torch, version] = run(python, [
  '-c',
  'import torch; print(torch.__path__[0]); print(torch.__version__)',
])
  .trim()
  .split('\n') as [string, string];
const env = { ...process.env, LIBTORCH: torch, OMP_NUM_THREADS: '1' };
const steps = 12;
const world = await makeWorld(14);

async function succeed(child: ChildProcess, name: string): Promise<void> {
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`${name} ended with exit code ${code}`);
}

function trainWords(name: string): string[] {
  const flags = flagsOf(world, {
    output_dir: join(world.root, name),
    ...{ train_batch_size: '6', max_train_steps: String(steps), save_steps: '2', learning_rate: '1e-3' },
  });
  return [join(root, 'dist/cli/ip-adapter.cjs'), 'train', ...flags, '--resume', 'auto'];
}

function underTorchrun(name: string): ChildProcess {
  const words = ['--standalone', '--nproc-per-node', '2', '--max-restarts', '1', '--no-python'];
  return spawn(python, ['-m', 'torch.distributed.run', ...words, process.execPath, ...trainWords(name)], {
    env,
    stdio: 'ignore',
  });
}

/** Kills rank 1 of a torchrun when the second checkpoint is there. */
async function killOne({ pid }: ChildProcess, name: string): Promise<void> {
  while (!existsSync(join(world.root, name, 'checkpoint-4')))
    await new Promise((wake) => setTimeout(wake, 20));
  const rank1 = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .find((child) => readFileSync(`/proc/${child}/environ`, 'utf8').includes('\0RANK=1\0'));
  process.kill(Number(rank1), 'SIGKILL');
}

function result(name: string): Buffer[] {
  const folder = join(world.root, name, `checkpoint-${steps}`);
  const files = readdirSync(folder).filter((file) => file.endsWith('.safetensors'));
  return files.sort().map((file) => readFileSync(join(folder, file)));
}

function report(what: string, name: string): boolean {
  const [ours, theirs] = [result('local'), result(name)];
  const isSame = ours.every((bytes, i) => bytes.equals(theirs[i] as Buffer));
  console.log(`${isSame ? 'ok  ' : 'MISS'}  torchrun of torch ${version}: ${what}`);
  return isSame;
}

try {
  const build = spawn(process.execPath, [join(root, 'tools/build-native.mjs')], { env, stdio: 'inherit' });
  await succeed(build, 'the build');
  const local = spawn(process.execPath, [...trainWords('local'), '--num-processes', '2'], {
    env,
    stdio: 'ignore',
  });
  await succeed(local, '--num-processes 2');
  await succeed(underTorchrun('torchrun'), 'torchrun');
  const disturbed = underTorchrun('restarted');
  await Promise.all([succeed(disturbed, 'torchrun with a kill'), killOne(disturbed, 'restarted')]);
  const isSame = [
    report('the bytes of --num-processes 2', 'torchrun'),
    report('the same where a process is killed and both start again', 'restarted'),
  ];
  if (isSame.includes(false)) process.exitCode = 1;
} finally {
  world.remove();
}
