/** @file Hostile option files: YAML and JSON, with what YAML has and JSON has not. */
import { join } from 'node:path';
import type { z } from 'zod';
import { pick, type Random } from '../../demo/world/random.js';
import { resolveFlags } from '../../src/cli/flags.js';
import { generateOptionsSchema } from '../../src/options/generate-options.js';
import { trainOptionsSchema } from '../../src/options/train-options.js';
import { below, edgeNumbers, mutateBytes } from './bytes.js';
import { mutateJson } from './json.js';
import type { Target } from './target.js';

const train = {
  model: 'model',
  image_encoder: 'image_encoder',
  dataset: 'data.json',
  'output-dir': 'out',
  resolution: 256,
  batch_size: 4,
  learningRate: 1e-4,
  max_steps: 100,
  'mixed-precision': 'no',
  gradient_checkpointing: true,
  validation_image: ['a.png', 'b.png'],
  seed: 7,
};
const generate = { model: 'model', prompt: 'a dog', image: ['a.png'], adapter: 'a.safetensors', steps: 10 };

/** What a value or a key may be in YAML. */
const values = [
  ...[
    '&a 1',
    '*a',
    '*b',
    '&a [*a]',
    '[&x {k: *x}]',
    '!!binary aGk=',
    '!!set {a, b}',
    '!unknown x',
    '? a',
    '<<: *a',
  ],
  ...[
    '|',
    '>-\n  folded',
    "'",
    '"',
    '"\\ud800"',
    '{',
    '[',
    '{}',
    '[]',
    '[[[[]]]]',
    '{a: {b: {c: d}}}',
    '~',
    'null',
  ],
  ...[
    'yes',
    'off',
    '0x1F',
    '0o17',
    '1_000',
    '.inf',
    '-.inf',
    '.nan',
    '2001-12-14',
    '1e400',
    '%TAG',
    '- - -',
    '@',
    '`',
  ],
  ...[
    '# comment',
    '--- 1',
    '...',
    '\t',
    '\u0000',
    '__proto__',
    'constructor',
    'x'.repeat(5000),
    '['.repeat(3000),
  ],
];

function mutateYaml(options: Record<string, unknown>, random: Random): Buffer {
  const seed = Object.entries(options);
  const lines = seed.map(([key, value]) => `${key}: ${JSON.stringify(value)}`);
  for (let i = 1 + below(4, random); i > 0; i--) {
    const at = below(lines.length, random);
    const [key = '', value = ''] = (lines[at] as string).split(': ');
    const other = random() < 0.3 ? String(pick(edgeNumbers, random)) : pick(values, random);
    const changed = [
      `${key}: ${other}`,
      `${other}: ${value}`,
      `${key}: &a ${value}`,
      `<<: ${other}`,
      `${key}:\n  - ${other}\n  - ${value}`,
      `${key}: [${Array.from({ length: 9 }, () => other).join(', ')}]`,
      `  ${lines[at]}`,
      `${lines[at]}\n${lines[at]}`,
      other,
    ];
    lines[at] = pick(changed, random);
  }
  return Buffer.from(lines.join(pick(['\n', '\r\n', '\n\n'], random)));
}

function target(schema: z.ZodObject, seed: Record<string, unknown>): (folder: string) => Target {
  const json = [JSON.stringify(seed), JSON.stringify(seed, null, 2)];
  const make = (random: Random): Buffer => {
    const kind = random();
    if (kind < 0.25) return mutateJson(json, random);
    const yaml = mutateYaml(seed, random);
    return kind < 0.35 ? mutateBytes([yaml], random) : yaml;
  };
  return (folder) => {
    const file = join(folder, 'options.yaml');
    return { file, make, read: () => resolveFlags(schema, { config: file }) };
  };
}

export const optionsTargets = {
  'train options': target(trainOptionsSchema, train),
  'generate options': target(generateOptionsSchema, generate),
};
