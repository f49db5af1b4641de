/** @file `ip-adapter steer`: asks a running training to save, sample, stop, or train on. */
import { existsSync } from 'node:fs';
import { Command } from '@commander-js/extra-typings';
import { ConfigError } from '../base/errors.js';
import { requestNames, requestSchema, writeRequest } from '../base/steering.js';
import { runStateOf } from '../training/checkpoints/run-state.js';

export function steerCommand(): Command {
  return new Command('steer')
    .description(
      'Ask a running training, after its current step: sample (draw the validation images now), save (a checkpoint now), stop (with a checkpoint), or extend it by a number of steps.',
    )
    .argument('<run>', 'output folder of the run')
    .argument('<request>', requestNames.join(', '))
    .argument('[steps]', 'with extend: how many steps more')
    .action(steer) as unknown as Command;
}

function steer(run: string, name: string, steps: string | undefined): void {
  const { data: request, error } = requestSchema.safeParse(
    steps === undefined ? { request: name } : { request: name, steps: Number(steps) },
  );
  if (error !== undefined)
    throw new ConfigError(
      `Expected sample, save, stop, or extend with a number of steps from 1, but received '${[name, steps].filter(Boolean).join(' ')}'`,
    );
  if (!existsSync(run))
    throw new ConfigError(`Expected the output folder of a run at ${run} but there is none`);
  const { isRunning, owner } = runStateOf(run);
  if (!isRunning)
    throw new ConfigError(
      owner === undefined
        ? `No run is going on in ${run}; train --resume starts it again`
        : `The run in ${run}, ${owner}, is not alive; train --resume starts it again`,
    );
  writeRequest(run, request);
  process.stderr.write(`Asked ${owner}: it answers after its current step.\n`);
}
