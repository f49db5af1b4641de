import { join } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { expect, it } from 'vitest';
import { buildCommand } from '../src/cli/build.js';
import { dataCommand } from '../src/cli/data-check.js';
import { doctorCommand } from '../src/cli/doctor.js';
import { embedCommand } from '../src/cli/embed.js';
import { evaluateCommand } from '../src/cli/evaluate.js';
import { exportCommand } from '../src/cli/export.js';
import { generateCommand } from '../src/cli/generate.js';
import { inspectCommand } from '../src/cli/inspect.js';
import { steerCommand } from '../src/cli/steer.js';
import { studioCommand } from '../src/cli/studio.js';
import { trainCommand } from '../src/cli/train.js';
import { optionsPage } from './options-page.js';

const head = `# Options

This page is written by \`tools/options-page.ts\` from the commands; \`npx ip-adapter <command> --help\` prints the same.

An option has one name in three spellings: \`--batch-size\` (or \`--batch_size\`) as a flag, \`batchSize\` in the library, and any of
\`batch_size\`, \`batch-size\` and \`batchSize\` in the YAML or JSON file of \`--config\`. Flags win over the file. A switch that the
file turns on is turned off by \`--no-…\`. "Other names" are accepted in the same places: those of the reference scripts
(tencent-ailab/IP-Adapter) and of an earlier version. A value with "…" is a list; in the library it is an array. A model, an image
encoder or an adapter can be a path or a name on the Hub, see [models-and-files.md](models-and-files.md).`;

it('docs/options.md is what the commands say', async () => {
  const program = new Command('ip-adapter');
  for (const command of [
    trainCommand(),
    steerCommand(),
    studioCommand(),
    generateCommand(),
    evaluateCommand(),
    embedCommand(),
    exportCommand(),
    inspectCommand(),
    dataCommand(),
    buildCommand(),
    doctorCommand(),
  ])
    program.addCommand(command);
  const leaves = program.commands.flatMap((one) => (one.commands.length > 0 ? one.commands : [one]));
  await expect(optionsPage(head, leaves as Command[])).toMatchFileSnapshot(
    join(import.meta.dirname, '../docs/options.md'),
  );
});
