/** @file `ip-adapter evaluate`: prints scores as a table, and writes them as JSON. */
import { writeFile } from 'node:fs/promises';
import { Command } from '@commander-js/extra-typings';
import { assertCanWrite } from '../base/out-file.js';
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
    'Measure how well generated images follow their image prompts: CLIP-I, CLIP-T and retrieval, on the rows of a dataset.',
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

function table({ scores, rows, imagesPerRow, metricEncoder }: Evaluation): string {
  const shown = (score: number | null): string => score?.toFixed(4) ?? '–';
  const title = ['scale', 'CLIP-I', 'to others', 'CLIP-T', 'CLIPScore', 'retrieval top-1'];
  const body = scores.map(({ scale, clipI, clipIOthers, clipT, clipScore, retrievalTop1 }) => [
    scale === 0 ? '0 (no adapter)' : String(scale),
    ...[clipI, clipIOthers, clipT, clipScore].map(shown),
    `${(100 * retrievalTop1).toFixed(1)} %`,
  ]);
  const lines = [title, ...body].map((cells) => cells.map((cell) => cell.padStart(15)).join(' '));
  const hasText = scores[0]?.clipT !== null;
  const notes = [
    `${rows} rows, ${imagesPerRow} ${imagesPerRow === 1 ? 'image' : 'images'} each; chance of retrieval ${(100 / rows).toFixed(1)} %; measured with ${metricEncoder}.`,
    'CLIP-I: cosine to its own image prompt; to others: to the prompts of the other rows. Good: CLIP-I is clearly higher, and retrieval far above chance.',
    hasText
      ? 'CLIP-T: cosine to the caption; CLIPScore: 2.5 times that, comparable to arXiv 2308.06721, table 1.'
      : 'CLIP-T is left out: the measuring encoder has no text encoder; give a whole CLIP, or --metric-text-encoder.',
  ];
  return [...lines, '', ...notes].join('\n');
}
