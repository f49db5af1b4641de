/**
 * @file Checks the package on an NVIDIA GPU, and writes what it found into one report. Each part is a process of its own, so that a
 * crash in one leaves the others.
 *
 *     npm run gpu-check                              everything, on the GPU; minutes
 *     DEVICE=cpu SCALE=tiny npm run gpu-check        the same program where no GPU is, on a few of the tests and without the bench
 *
 * The exit code is 1 where a part fails. The report is gpu-report.md, or what REPORT names.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { cudaDevices, torchVersion } from '../../src/torch/index.js';
import { goldenTests } from './golden-tests.js';

const { DEVICE: device = 'cuda', SCALE: scale = 'full', REPORT: reportFile = 'gpu-report.md' } = process.env;
if (!['cuda', 'cpu'].includes(device)) fail(`DEVICE is ${device}; it must be cuda or cpu`);
if (!['full', 'tiny'].includes(scale)) fail(`SCALE is ${scale}; it must be full or tiny`);
if (device === 'cuda' && cudaDevices() === 0)
  fail(`LibTorch ${torchVersion()} finds no GPU; \`npx ip-adapter doctor\` says what is missing`);

const isFull = scale === 'full';
const work = mkdtempSync(join(tmpdir(), 'gpu-check-'));
// Tests and commands take a GPU where LibTorch sees one.
const env = { ...process.env, ...(device === 'cpu' && { CUDA_VISIBLE_DEVICES: '' }) };

interface Part {
  title: string;
  /** Of Node. */
  args: string[];
  /** Shows what the part has printed; default: its end. */
  show?: (output: string) => string;
}

/** Runs tests; shows how many passed, and the reason of each that did not. */
function tests(title: string, files: readonly string[]): Part {
  const file = join(work, `${title}.json`);
  const args = ['node_modules/vitest/vitest.mjs', 'run', ...files, '--reporter=json', `--outputFile=${file}`];
  return { title, args, show: (output) => describeTests(file) ?? output };
}

function script(title: string, ...args: string[]): Part {
  return { title, args: ['--import', 'tsx', ...args] };
}

const parts: Part[] = [
  { title: 'Machine', args: ['dist/cli/ip-adapter.cjs', 'doctor'] },
  tests('Golden data in float32, TF32 off', isFull ? goldenTests() : ['src/adapters/resampler.test.ts']),
  tests('Golden data in half precision', ['test/half-precision.test.ts']),
  script('Training, killed and resumed', 'tools/gpu-check/training.ts', device),
  tests('Tensors left behind', isFull ? ['test/leak'] : ['test/leak/runs.test.ts']),
];
if (isFull && device === 'cuda') parts.push(script('Steps beside PyTorch', 'bench/cuda.ts'));

const lines = [
  '# GPU check',
  '',
  `${device}, ${scale}, LibTorch ${torchVersion()}, Node ${process.version}, ${new Date().toISOString()}`,
];
let failures = 0;
try {
  for (const { title, args, show = lastLines } of parts) {
    const begin = performance.now();
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, {
      env,
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
    if (status !== 0) failures++;
    const seconds = ((performance.now() - begin) / 1000).toFixed(0);
    const verdict = status === 0 ? 'passed' : `FAILED (${signal ?? `exit code ${status}`})`;
    console.log(`${title}: ${verdict}, ${seconds} s`);
    const output = show(`${stdout}${stderr}`);
    lines.push('', `## ${title}: ${verdict}, ${seconds} s`, '', '```', output, '```');
    // Kept as it grows: a machine may be taken away.
    writeFileSync(reportFile, `${lines.join('\n')}\n`);
  }
} finally {
  rmSync(work, { recursive: true });
}
console.log(
  `${reportFile}: ${failures === 0 ? 'all parts passed' : `${failures} of ${parts.length} parts failed`}`,
);
process.exitCode = failures === 0 ? 0 : 1;

function lastLines(output: string): string {
  return output.trim().split('\n').slice(-40).join('\n');
}

interface Report {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  testResults: {
    name: string;
    message: string;
    assertionResults: { status: string; fullName: string; failureMessages: string[] }[];
  }[];
}

/** Returns undefined where the tests did not come to an end. */
function describeTests(file: string): string | undefined {
  let report: Report;
  try {
    report = JSON.parse(readFileSync(file, 'utf8')) as Report;
  } catch {
    return undefined;
  }
  const { numPassedTests, numFailedTests, numPendingTests, testResults } = report;
  const failed = testResults.flatMap(({ name, message, assertionResults }) => [
    ...(message === '' ? [] : [`${name}: ${message}`]),
    ...assertionResults
      .filter(({ status }) => status === 'failed')
      .map(({ fullName, failureMessages }) => `${fullName}: ${failureMessages[0]?.split('\n')[0]}`),
  ]);
  return [`${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped`, ...failed].join(
    '\n',
  );
}

function fail(message: string): never {
  console.error(message);
  process.exit(2);
}
