import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parquetOf } from '../write-parquet.js';
import { tarOf } from '../write-tar.js';
import { type Ended, runProgram } from './command.js';
import { makeWorld, type World } from './world.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

let world: World;
let rows: { image_file: string; text: string }[];
const at = (...names: string[]): string => join(world.root, ...names);
const image = (name: string): Buffer => readFileSync(at('images', name));

beforeAll(async () => {
  world = await makeWorld(8);
  rows = JSON.parse(readFileSync(at('data.json'), 'utf8'));
  writeFileSync(at('images', 'data.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
  cpSync(at('images'), at('folder'), { recursive: true, filter: (file) => !file.endsWith('l') });
  mkdirSync(at('parquet'));
  mkdirSync(at('shards'));
  for (const { image_file, text } of rows)
    writeFileSync(at('folder', image_file.replace('png', 'txt')), `${text}\n`);
  const parquetRows = rows.map(({ image_file, text }) => ({ image: { bytes: image(image_file) }, text }));
  writeFileSync(
    at('parquet', '0.parquet'),
    parquetOf([parquetRows.slice(0, 3), parquetRows.slice(3)], 'snappy'),
  );
  for (const [shard, part] of [rows.slice(0, 5), rows.slice(5)].entries())
    writeFileSync(at('shards', `a-${shard}.tar`), await tarOf(part.flatMap(membersOf)));
});
afterAll(() => world.remove());

function membersOf({ image_file, text }: { image_file: string; text: string }) {
  return [
    [image_file, image(image_file)],
    [image_file.replace('png', 'txt'), text],
  ] as const;
}

/** Runs `ip-adapter train` into the folder `name`, with the world's models and the given dataset. */
function train(name: string, args: string[], stdin = Buffer.alloc(0)): Promise<Ended & { losses: number[] }> {
  const models = world.flags.slice(0, 4);
  const rest = ['--output-dir', at(name), '--resolution', '64', '--batch-size', '3'];
  const command = [join(root, 'dist', 'cli', 'main.js'), 'train', ...models, ...rest, ...args];
  const child = spawn(process.execPath, command);
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  child.stdin.on('error', () => {});
  child.stdin.end(stdin);
  return new Promise((resolve) =>
    child.on('close', (exitCode) =>
      resolve({ exitCode, stdout, stderr, losses: exitCode === 0 ? lossesOf(name) : [] }),
    ),
  );
}

function lossesOf(name: string): number[] {
  const lines = readFileSync(at(name, 'metrics.jsonl'), 'utf8').trim().split('\n');
  return lines
    .map((line) => JSON.parse(line))
    .filter(({ type }) => type === 'step')
    .map(({ loss }) => loss);
}

const adapterOf = (name: string): Buffer => readFileSync(at(name, 'checkpoint-7', 'ip_adapter.safetensors'));

describe('ip-adapter train', () => {
  const steps = ['--max-steps', '7', '--learning-rate', '1e-3'];
  let expected: number[];
  beforeAll(async () => {
    const json = ['--data_json_file', at('data.json'), '--data_root_path', at('images')];
    const { exitCode, losses, stderr } = await train('json', [...json, ...steps]);
    expect(exitCode, stderr).toBe(0);
    expected = losses;
    expect(expected).toHaveLength(7);
  });

  it.each([
    ['jsonl', () => at('images', 'data.jsonl'), 'JSON Lines: 8 rows'],
    ['a folder', () => at('folder'), 'Folder: 8 images'],
    ['parquet', () => at('parquet'), 'Parquet: 1 file, 8 rows'],
    ['shards', () => at('shards', 'a-{0..1}.tar'), 'WebDataset: 2 shards, 8 samples'],
  ])('has the losses and weights of JSON from %s, to the bit', async (name, dataset, told) => {
    // Several shards have an order of their own, unless all rows are shuffled.
    const shuffled = ['--open-shards', '0'];
    const { exitCode, losses, stderr } = await train(name, ['--dataset', dataset(), ...steps, ...shuffled]);
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toContain(told);
    expect(losses).toEqual(expected);
    expect(adapterOf(name).equals(adapterOf('json'))).toBe(true);
  });

  it('trains on a tar from a pipe, and goes on from what is kept of it, to the bit', async () => {
    const joined = Buffer.concat(['a-0.tar', 'a-1.tar'].map((name) => readFileSync(at('shards', name))));
    const first = await train('pipe', ['--dataset', '-', ...steps, '--max-steps', '4'], joined);
    expect(first.exitCode, first.stderr).toBe(0);
    const kept = at('pipe', 'dataset.tar');
    expect(first.stderr).toContain(`Saving standard input to ${kept}`);
    expect(first.losses).toEqual(expected.slice(0, 4));
    const rest = await train('pipe', ['--dataset', kept, ...steps, '--resume']);
    expect(rest.exitCode, rest.stderr).toBe(0);
    expect(rest.losses).toEqual(expected);
    expect(adapterOf('pipe').equals(adapterOf('json'))).toBe(true);
  });

  it('uses the whole samples of a cut shard, names the cut one, and goes on to the bit', async () => {
    cpSync(at('shards', 'a-0.tar'), at('cut.tar'));
    const members = await tarOf(rows.slice(0, 4).flatMap(membersOf));
    // The end mark of the first four is where the fifth sample begins.
    truncateSync(at('cut.tar'), members.length - 1024 + 700);
    const data = ['--dataset', at('cut.tar'), ...steps];
    const whole = await train('cut', data);
    expect(whole.exitCode, whole.stderr).toBe(0);
    expect(whole.stderr).toContain('1 shard, 4 samples; cut, or without an end mark: 1 shard');
    expect(whole.stderr).toMatch(/Skipped .*cut\.tar\/4: the shard is cut in it/);
    expect(whole.stderr).toContain('1 row was skipped');
    const first = await train('cut again', [...data, '--max-steps', '3']);
    const rest = await train('cut again', [...data, '--resume']);
    expect(first.losses).toEqual(whole.losses.slice(0, 3));
    expect(rest.losses).toEqual(whole.losses);
    cpSync(at('shards', 'a-0.tar'), at('cut.tar'));
    const mended = await train('cut again', [...data, '--max-steps', '9', '--resume']);
    expect([mended.exitCode, mended.stderr]).toEqual([2, expect.stringContaining('dataset is not the one')]);
  });

  it('trains in 4 GB of addresses, or says what needs more', async () => {
    const small = (name: string, ...datasets: string[]) => {
      const models = world.flags.slice(0, 4).join(' ');
      const rest = `--output-dir '${at(name)}' --resolution 64 --batch-size 8 --epochs 1`;
      const command = `ulimit -v 4194304; '${process.execPath}' dist/cli/ip-adapter.cjs train ${models} ${rest} --dataset`;
      // As many threads as a machine has cores would each take addresses.
      const quoted = datasets.map((dataset) => `'${dataset}'`).join(' ');
      return runProgram('bash', ['-c', `export OMP_NUM_THREADS=1; ${command} ${quoted}`], { cwd: root });
    };
    // All rows of each; the Parquet is compressed by Snappy.
    const files = [at('images', 'data.jsonl'), at('shards', 'a-{0..1}.tar'), at('parquet')];
    const joined = await small('small', at('folder'), ...files);
    expect(joined.exitCode, joined.stderr).toBe(0);
    expect(joined.stderr).toContain('step 4/4');
    const row = { image: { bytes: image('0.png') }, text: 'a' };
    writeFileSync(at('gzip.parquet'), parquetOf([[row]], 'gzip'));
    const { exitCode, stderr } = await small('small gzip', at('gzip.parquet'));
    expect(stderr).toMatch(
      /^DatasetError: Expected enough virtual memory for WebAssembly, .* GZIP .*ulimit -v/m,
    );
    expect(exitCode).toBe(2);
  });

  it('works with few open files, or says how many it needs', async () => {
    for (const limit of [32, 64, 256]) {
      const help = `ulimit -n ${limit}; '${process.execPath}' dist/cli/ip-adapter.cjs train --help`;
      const { exitCode, stdout, stderr } = await runProgram('bash', ['-c', help], { cwd: root });
      if (limit === 256) expect([exitCode, stdout]).toEqual([0, expect.stringContaining('Usage')]);
      else
        expect([exitCode, stderr]).toEqual([2, expect.stringMatching(/^ConfigError: .*ulimit -n 1024\.$/)]);
    }
  });

  it('leaves its own output folder out of the dataset around it, and resumes', async () => {
    cpSync(at('folder'), at('around'), { recursive: true });
    const validation = ['--validation-image', at('images', '0.png'), '--validation-steps', '2'];
    const sampling = ['--validation-sampling-steps', '2'];
    const args = ['--dataset', at('around'), ...validation, ...sampling, '--learning-rate', '1e-3'];
    const first = await train(join('around', 'out'), [...args, '--max-train-steps', '3']);
    expect(first.exitCode, first.stderr).toBe(0);
    const rest = await train(join('around', 'out'), [...args, '--max-train-steps', '7', '--resume']);
    expect(rest.exitCode, rest.stderr).toBe(0);
    expect(rest.stderr).toMatch(/Left out .*around\/out: the output folder of a training run/);
    expect(rest.losses).toEqual(expected);
  });

  it('never waits for a named pipe', async () => {
    for (const name of ['pipe.tar', 'pipe.json', 'pipe.parquet', 'pipe.yaml'])
      execFileSync('mkfifo', [at(name)]);
    for (const name of ['pipe.tar', 'pipe.json', 'pipe.parquet']) {
      const { exitCode, stderr } = await train('pipes', ['--dataset', at(name)]);
      expect([exitCode, stderr]).toEqual([
        2,
        expect.stringMatching(/DatasetError: .*a named pipe, not a file/),
      ]);
    }
    const { exitCode, stderr } = await train('pipes', ['--config', at('pipe.yaml')]);
    expect([exitCode, stderr]).toEqual([2, expect.stringMatching(/ConfigError: .*a named pipe, not a file/)]);
  });

  it('ends with code 2 at a dataset that it cannot use', async () => {
    const spoilt = readFileSync(at('shards', 'a-0.tar'));
    spoilt[100]! ^= 1;
    writeFileSync(at('spoilt.tar'), spoilt);
    const cases: [string[], RegExp][] = [
      [[], /ConfigError: --dataset is required/],
      [['--dataset', at('spoilt.tar')], /DatasetError: .*spoilt\.tar at byte 0 .*checksum/],
      [['--dataset', 'ftp://a.example/x.tar'], /DatasetError: .*download it first/],
      [['--dataset', '-'], /DatasetError: .*received nothing/],
    ];
    for (const [args, message] of cases) {
      const { exitCode, stderr } = await train('refused', args);
      expect(stderr).toMatch(message);
      expect(exitCode).toBe(2);
    }
  });
});
