/** @file `ip-adapter evaluate`: prints scores as a table, and writes them as JSON. */
import { writeFile } from 'node:fs/promises';
import { Command } from '@commander-js/extra-typings';
import { assertCanWrite } from '../base/out-file.js';
import type { ScoreSet } from '../base/run-context.js';
import type { Interval } from '../base/statistics.js';
import type { Evaluation } from '../evaluation/evaluate.js';
import { evaluateOptionsSchema } from '../options/evaluate-options.js';
import { path } from '../options/options.js';
import { withCtrlC } from './abort.js';
import { addFlags, resolveFlags } from './flags.js';
import { StepProgress } from './step-progress.js';

const schema = evaluateOptionsSchema.extend({
  out: path.prefault('evaluation.json').describe('JSON file to write the scores to'),
});

export function evaluateCommand(): Command {
  const command = new Command('evaluate').description(
    'Measure how well generated images follow their image prompts: CLIP-I, DINO, CLIP-T and retrieval, on the rows of a dataset.',
  );
  addFlags(command, schema);
  return command.action((flags) => run(flags));
}

async function run(flags: Record<string, unknown>): Promise<void> {
  const { out, ...options } = resolveFlags(schema, flags);
  assertCanWrite(out, '--out (out)');
  const progress = new StepProgress(process.stderr);
  await withCtrlC(async (signal) => {
    try {
      // Loaded now: --help should not need LibTorch.
      const { evaluate } = await import('../evaluation/evaluate.js');
      const evaluation = await evaluate(options, { signal, onEvent: progress.onEvent });
      progress.stop();
      await writeFile(out, `${JSON.stringify(evaluation, null, 2)}\n`);
      process.stdout.write(`${table(evaluation)}\n\n${out}\n`);
    } finally {
      progress.stop();
    }
  });
}

function table({ scores, differences, rows, imagesPerRow, metricEncoder, options }: Evaluation): string {
  const hasText = scores[0]?.clipT !== null;
  const hasDino = scores[0]?.dino !== null;
  const columns: [title: string, key: keyof ScoreSet, isShare?: boolean][] = [
    ['CLIP-I', 'clipI'],
    ...(hasDino ? [['DINO', 'dino'] as [string, keyof ScoreSet]] : []),
    ...(hasText ? [['CLIP-T', 'clipT'] as [string, keyof ScoreSet]] : []),
    ['retrieval top-1', 'retrieval', true],
    ['copies', 'copies', true],
  ];
  const cells = (set: ScoreSet): string[] =>
    columns.map(([, key, isShare]) => withInterval(set[key], isShare ? percent : (x) => x.toFixed(4)));
  const several = options.adapter.length > 1;
  const nameOf = (adapter: string | null): string => (several && adapter !== null ? `${adapter} ` : '');
  const body = scores.flatMap(({ adapter, scale, intervals, shuffled }) => [
    [scale === 0 ? 'no adapter' : `${nameOf(adapter)}scale ${scale}`, ...cells(intervals)],
    ...(shuffled === null ? [] : [['  another reference', ...cells(shuffled)]]),
  ]);
  const compared = differences.map(({ adapter, over, scale, differences: set }) => [
    `${adapter} − ${over}, scale ${scale}`,
    ...cells(set),
  ]);
  const notes = [
    `${rows} rows, ${imagesPerRow} ${imagesPerRow === 1 ? 'image' : 'images'} each; chance of retrieval ${percent(1 / rows)}; measured with ${metricEncoder}; in brackets the 95 % interval.`,
    'CLIP-I: cosine to its own image prompt. It rewards copies of the prompt, and a mean that is high for every prompt: compare it with another reference, DINO and retrieval.',
    'Another reference: the same where the prompt is that of another row. No score that is not above it comes from the prompt.',
    hasText
      ? `CLIP-T: cosine to the caption; 2.5 times that, ${scores.map(({ clipScore }) => clipScore?.toFixed(2)).join(', ')}, is comparable to arXiv 2308.06721, table 1.`
      : 'CLIP-T is left out: the measuring encoder has no text encoder; give a whole CLIP, or --metric-text-encoder.',
    ...(several ? ['Differences are of pairs: the same prompts, seeds and noise.'] : []),
  ];
  return [...aligned([['', ...columns.map(([title]) => title)], ...body, ...compared]), '', ...notes].join(
    '\n',
  );
}

function withInterval(value: Interval | null, shown: (value: number) => string): string {
  return value === null ? '–' : `${shown(value.mean)} (${shown(value.low)} … ${shown(value.high)})`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** Returns lines of cells in columns, the first of them flush left. */
function aligned(lines: readonly string[][]): string[] {
  const widths = (lines[0] ?? []).map((_, i) => Math.max(...lines.map((cells) => (cells[i] ?? '').length)));
  return lines.map((cells) =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  '),
  );
}
