/** @file The lint rules that make imports run one way really fire: in each layer, and on every kind of import. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, it } from 'vitest';

const BIOME = join(import.meta.dirname, '../node_modules/@biomejs/biome/bin/biome');
const folder = mkdtempSync(join(tmpdir(), 'import-rules-'));
afterAll(() => rmSync(folder, { recursive: true }));

const refused: [file: string, code: string][] = [
  ['src/torch/a.ts', "import '../nn/index.js';"],
  ['src/torch/deep/a.ts', "import '../../models/load.js';"],
  ['src/nn/a.ts', "import '../models/load.js';"],
  ['src/models/a.ts', "import '../ip-adapter/resampler.js';"],
  ['src/models/b.ts', "import 'node:fs';"],
  ['src/models/c.ts', "import '../config.js';"],
  ['src/optim/a.ts', "import '../models/load.js';"],
  ['src/data/a.ts', "import '../nn/index.js';"],
  ['src/schedulers/a.ts', "import '../data/dataset.js';"],
  ['src/ip-adapter/a.ts', "import type { A } from '../train.js';\n\nexport type B = A;"],
  ['src/ip-adapter/b.ts', "export { a } from '../checkpoint.js';"],
  ['src/ip-adapter/c.ts', "export const a = await import('../data/dataset.js');"],
  ['src/checkpoint.ts', "import './train.js';"],
  ['src/train.ts', "import './cli/main.js';"],
];
const allowed: [file: string, code: string][] = [
  ['src/torch/ok.ts', "import 'node:fs';\nimport '../errors.js';\nimport './tensor.js';"],
  ['src/nn/ok.ts', "import '../torch/index.js';"],
  ['src/models/weight-files.ts', "import 'node:fs';\nimport '../nn/index.js';"],
  ['src/models/ok.test.ts', "import 'node:fs';\nimport '../ip-adapter/resampler.js';"],
  ['src/data/ok.ts', "import 'node:fs';\nimport '../torch/index.js';"],
  ['src/ip-adapter/ok.ts', "import '../models/load.js';\nimport '../optim/adamw.js';"],
  ['src/index.ts', "import './train.js';\nimport './checkpoint.js';"],
  ['src/cli/main.ts', "import '../checkpoint.js';"],
];

it('refuses what runs against the layers and nothing else', () => {
  copyFileSync(join(import.meta.dirname, '../biome.json'), join(folder, 'biome.json'));
  for (const [file, code] of [...refused, ...allowed]) {
    mkdirSync(join(folder, dirname(file)), { recursive: true });
    writeFileSync(join(folder, file), `${code}\n`);
  }
  expect(faultyFiles()).toEqual(refused.map(([file]) => file).sort());
});

/** The files of the folder in which biome finds a forbidden import. */
function faultyFiles(): string[] {
  const args = ['lint', '--vcs-enabled=false', '--reporter=json', '--max-diagnostics=none'];
  let output = '';
  try {
    output = execFileSync(process.execPath, [BIOME, ...args], {
      cwd: folder,
      encoding: 'utf8',
      stdio: 'pipe',
    });
  } catch (error) {
    output = (error as { stdout: string }).stdout; // faults make biome end with exit code 1
  }
  const { diagnostics } = JSON.parse(output) as {
    diagnostics: { category: string; location: { path: string } }[];
  };
  const found = diagnostics.filter(({ category }) => category === 'lint/style/noRestrictedImports');
  return found.map(({ location }) => location.path.replace(/^\.\//, '')).sort();
}
