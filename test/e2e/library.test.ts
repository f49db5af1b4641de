import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Adapted, makeAdaptedWorld } from './adapted-world.js';
import { runProgram } from './command.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

let world: Adapted;
beforeAll(async () => {
  world = await makeAdaptedWorld();
});
afterAll(() => world.remove());

const at = (name: string) => join(world.root, name);

describe('the library', () => {
  it('is imported by the name of the package', async () => {
    const code = "import * as library from 'ip-adapter'; console.log(Object.keys(library).sort().join())";
    const { stdout } = await runProgram(process.execPath, ['--input-type=module', '-e', code], { cwd: root });
    expect(stdout.split(',')).toEqual(
      expect.arrayContaining(['ConfigError', 'IPAdapterPipeline', 'embed', 'evaluate', 'train']),
    );
  });

  it('trains in the example, and resumes there', async () => {
    const args = [join(root, 'examples/train.ts'), world.model, world.imageEncoder];
    const runExample = (dataset: string) =>
      runProgram(join(root, 'node_modules/.bin/tsx'), [...args, dataset, at('example')], { cwd: root });
    writeFileSync(at('images/data.json'), readFileSync(at('data.json')));
    const first = await runExample(at('images/data.json'));
    expect(first.stderr).toMatch(/step 4: loss \d\.\d{4}$/m);
    expect([first.exitCode, first.stdout]).toEqual([0, `4 steps: ${at('example/checkpoint-4')}`]);
    expect((await runExample(at('images/data.json'))).stderr).toContain('Nothing is left to do');
    const wrong = await runExample('none.json');
    expect([wrong.exitCode, wrong.stderr]).toEqual([2, expect.stringContaining('none.json')]);
  });

  it('generates an image in the example, and prints nothing', async () => {
    const example = join(root, 'examples/generate.ts');
    expect(readFileSync(example, 'utf8').trimEnd().split('\n').length).toBeLessThanOrEqual(20);
    const args = [
      example,
      world.model,
      world.imageEncoder,
      world.adapter,
      world.picture(0),
      at('example.png'),
    ];
    const { stdout, stderr } = await runProgram(join(root, 'node_modules/.bin/tsx'), args, { cwd: root });
    expect(stderr).toMatch(/21\/21$/);
    expect(stdout).toBe('');
    expect((await sharp(at('example.png')).metadata()).format).toBe('png');
  });
});
