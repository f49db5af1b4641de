/**
 * @file Trains on a device in the small world of the tests: a run that is killed and resumed is held against one that is not, and against
 * itself once more; on a GPU, with CUDA graphs too.
 *
 *     npx tsx tools/gpu-check/training.ts (cuda|cpu)
 *
 * Kernels of a GPU that add up in any order end with other bytes each time. So bytes are compared, and where they differ the weights, by
 * ‖one − other‖ / ‖one − start‖: as much as two runs that nothing happened to, with some room, is allowed.
 */
import { join } from 'node:path';
import process from 'node:process';
import { shareOfMovement } from '../../test/distributed/runs.js';
import { ipAdapter, runProgram } from '../../test/e2e/command.js';
import { flagsOf, makeWorld } from '../../test/e2e/world.js';

const [device = 'cuda'] = process.argv.slice(2);
/** Enough that a kill after the tenth comes before the last. */
const STEPS = 40;
/** Of the movement of the weights. */
const ROUNDING = 1e-3;
const world = await makeWorld(8);

/** Trains to the last step; killed first, where `kills`. @returns the folder of its last checkpoint */
async function train(name: string, flags: readonly string[], kills: boolean): Promise<string> {
  const words = [
    'train',
    ...flagsOf(world, { output_dir: join(world.root, name), max_train_steps: `${STEPS}`, save_steps: '10' }),
    ...[
      '--learning_rate',
      '1e-3',
      '--checkpoints_total_limit',
      '20',
      '--resume',
      'auto',
      '--device',
      device,
      ...flags,
    ],
  ];
  const run = (onError?: Parameters<typeof runProgram>[2]['onError']) =>
    runProgram(process.execPath, [ipAdapter, ...words], { cwd: process.cwd(), onError });
  if (kills) {
    const { exitCode } = await run((text, child) => {
      if (/Saved .*checkpoint-10$/m.test(text)) child.kill('SIGKILL');
    });
    if (exitCode !== null) throw new Error(`the run that was to be killed ended with exit code ${exitCode}`);
  }
  const { exitCode, stderr } = await run();
  if (exitCode !== 0) throw new Error(`${name} ended with exit code ${exitCode}:\n${stderr}`);
  return join(world.root, name, `checkpoint-${STEPS}`);
}

let failures = 0;
function compare(what: string, one: string, other: string, limit: number): number {
  const start = one.replace(/\d+$/, '10');
  const share = shareOfMovement(one, other, start);
  const isGood = share <= limit;
  if (!isGood) failures++;
  const difference = share === 0 ? 'the same weights' : `${share.toExponential(1)} of the movement apart`;
  console.log(`${isGood ? 'ok  ' : 'MISS'}  ${what}: ${difference}, limit ${limit.toExponential(1)}`);
  return share;
}

try {
  for (const [mode, flags] of [
    ['eager', []],
    ...(device === 'cpu'
      ? []
      : ([
          ['bf16', ['--mixed-precision', 'bf16']],
          ['graphs', ['--cuda-graphs']],
        ] as const)),
  ] as const) {
    const whole = await train(`${mode} whole`, flags, false);
    const again = await train(`${mode} again`, flags, false);
    const resumed = await train(`${mode} resumed`, flags, true);
    // On a CPU every sum has its order.
    const unharmed = compare(`${mode}, once more`, whole, again, device === 'cpu' ? 0 : ROUNDING);
    compare(`${mode}, killed and resumed`, whole, resumed, 4 * unharmed);
  }
  const [eager, graphs] = ['eager', 'graphs'].map((mode) =>
    join(world.root, `${mode} whole`, `checkpoint-${STEPS}`),
  );
  if (device !== 'cpu') compare('graphs beside eager', eager as string, graphs as string, ROUNDING);
} finally {
  world.remove();
}
process.exitCode = failures === 0 ? 0 : 1;
