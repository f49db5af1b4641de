/** @file `ip-adapter inspect`: shows the kind of adapter in a file, and its tensors. */
import { Command } from '@commander-js/extra-typings';
import type { AdapterDescription } from '../adapters/kinds.js';

export function inspectCommand(): Command {
  return new Command('inspect')
    .description('Show the kind of adapter in a file, with its keys, shapes and token count.')
    .argument(
      '<file>',
      'adapter file (.safetensors or .bin), checkpoint, or output folder of train (its newest checkpoint)',
    )
    .action(async (file) => {
      const { adapterFileOf } = await import('../adapters/adapter-path.js');
      const { readAdapter } = await import('../adapters/adapter-file.js');
      const { describeAdapter, families } = await import('../adapters/kinds.js');
      const tensors = readAdapter(adapterFileOf(file, (text) => process.stderr.write(`${text}\n`)));
      const { kind, sizes, layers } = describeAdapter(tensors) as AdapterDescription;
      const { numTokens, embeddingDim, crossAttentionDim } = sizes;
      const family = families.get(crossAttentionDim ?? 0);
      const parameters = [...tensors.values()].reduce((sum, { numel }) => sum + numel, 0);
      const facts = [
        ['kind', kind.title],
        ['image tokens', numTokens ?? 'one for each of the image encoder'],
        ['image features', embeddingDim === undefined ? 'unknown' : `${embeddingDim} wide`],
        [
          'cross-attention',
          crossAttentionDim === undefined
            ? 'unknown'
            : `${crossAttentionDim} wide${family === undefined ? '' : ` (${family})`}`,
        ],
        ['attention layers', `${layers.length}, numbered ${layers[0]} to ${layers.at(-1)}`],
        ['parameters', parameters.toLocaleString('en')],
      ];
      for (const [name, value] of facts) process.stdout.write(`${String(name).padEnd(18)}${value}\n`);
      process.stdout.write('\n');
      const width = Math.max(...[...tensors.keys()].map((key) => key.length));
      for (const [key, { dtype, shape }] of tensors)
        process.stdout.write(`${key.padEnd(width)}  ${dtype}  [${shape.join(', ')}]\n`);
    }) as unknown as Command;
}
