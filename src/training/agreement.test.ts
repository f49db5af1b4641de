import { expect, it } from 'vitest';
import { alone } from '../distributed/processes.js';
import { resolveOptions } from '../options/options.js';
import { trainOptionsSchema } from '../options/train-options.js';
import { assertSameOptions } from './agreement.js';

it('compares options and the kind of device, but no paths of a host', async () => {
  const config = resolveOptions(trainOptionsSchema, {
    ...{ model: 'sd', imageEncoder: 'clip', dataset: 'data.json', seed: 7 },
    ...{ outputDir: 'out', resume: 'latest' },
  });
  let compared: Readonly<Record<string, unknown>> = {};
  const processes = {
    ...alone,
    assertSame: async (values: typeof compared): Promise<void> => {
      compared = values;
    },
  };
  await assertSameOptions(processes, config, 'cuda:3');
  expect(compared).toMatchObject({ '--model': 'sd', '--seed': 7, '--device': 'cuda' });
  for (const flag of ['--dataset', '--output-dir', '--resume']) expect(compared).not.toHaveProperty(flag);
});
