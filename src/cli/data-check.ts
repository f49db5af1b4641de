/** @file `ip-adapter data check`: prints the report on a dataset as a table, and writes it as JSON. */
import { writeFile } from 'node:fs/promises';
import { Command } from '@commander-js/extra-typings';
import { DatasetError } from '../base/errors.js';
import { assertCanWrite } from '../base/out-file.js';
import type { RunContext } from '../base/run-context.js';
import type { BucketReport, DatasetReport } from '../dataset-check/report.js';
import { factsOf } from '../dataset-check/report-facts.js';
import { checkOptionsSchema } from '../options/check-options.js';
import { path } from '../options/options.js';
import type { CheckOptions } from '../options/train-types.js';
import { withCtrlC } from './abort.js';
import { addFlags, resolveFlags } from './flags.js';
import { StepProgress } from './step-progress.js';

const schema = checkOptionsSchema.extend({
  out: path.optional().describe('JSON file to write, with every bad row and duplicate'),
  showFile: path.default('data-check.png').describe('PNG file of the contact sheet that --show draws'),
});

export function dataCommand(): Command {
  const check = new Command('check')
    .description('Read every image of a dataset, and report what training would do with it.')
    .addHelpText(
      'after',
      '\nExit code: 0 if every image can be read; 2 if one cannot, or if an option or the whole dataset is wrong.',
    );
  addFlags(check as unknown as Command, schema);
  check.action((flags) => run(flags));
  return new Command('data').description('Inspect datasets.').addCommand(check as unknown as Command);
}

async function run(flags: Record<string, unknown>): Promise<void> {
  const { out, showFile, ...options } = resolveFlags(schema, flags);
  if (out !== undefined) assertCanWrite(out, '--out (out)');
  if (options.show !== undefined) assertCanWrite(showFile, '--show-file (showFile)');
  const progress = new StepProgress(process.stderr);
  await withCtrlC(async (signal) => {
    try {
      // Loaded now: --help should not need LibTorch.
      const { checkDataset } = await import('../dataset-check/check-dataset.js');
      if (options.show !== undefined)
        await writeSheet(showFile, options, { signal, onEvent: progress.onEvent });
      const report = await checkDataset(options, { signal, onEvent: progress.onEvent });
      progress.stop();
      if (out !== undefined) await writeFile(out, `${JSON.stringify(report, null, 2)}\n`);
      process.stdout.write(`${table(report, options.buckets)}\n`);
      const { badRows, incomplete, rows } = report;
      const bad = badRows.length + incomplete.length;
      if (bad > 0)
        throw new DatasetError(
          `${bad} of ${rows + incomplete.length} rows have no readable image, or no caption; repair these files, or remove their rows. ` +
            'Training would skip them.',
        );
    } finally {
      progress.stop();
    }
  });
}

/** Comes before the check, which may take hours. */
async function writeSheet(file: string, options: CheckOptions, context: RunContext): Promise<void> {
  const [{ sampleSheet }, { encodePng }] = await Promise.all([
    import('../dataset-check/sample-sheet.js'),
    import('../images/png.js'),
  ]);
  await writeFile(file, await encodePng(await sampleSheet(options, context)));
  process.stderr.write(`Contact sheet: ${file}\n`);
}

/** Bad rows and duplicates that are shown. */
const SHOWN = 10;

function table(report: DatasetReport, hasBuckets: boolean): string {
  const { badRows, incomplete, leftOut, images, buckets } = report;
  const lines = factsOf(report).map(([name, value]) => `${name.padEnd(12)}${value}`);
  if (hasBuckets) lines.push('', ...bucketTable(buckets));
  const bad = [
    ...badRows.map(({ row, ...rest }) => ({ name: `row ${row}`, ...rest })),
    ...incomplete.map((row) => ({ name: 'incomplete', ...row })),
  ];
  lines.push(
    ...shown(
      'Bad rows',
      bad.map(({ name, file, reason }) => `${name}: ${file}: ${reason}`),
    ),
  );
  lines.push(
    ...shown(
      'Left out',
      leftOut.map(({ file, reason }) => `${file}: ${reason}`),
    ),
  );
  lines.push(
    ...shown(
      'Rows of one image',
      images.duplicates.map((same) => same.join(', ')),
    ),
  );
  return lines.join('\n');
}

function bucketTable(buckets: readonly BucketReport[]): string[] {
  const title = ['bucket', 'rows', 'batches', 'last batch'];
  const body = buckets.map(({ width, height, rows, batches, partial }) => [
    `${width}x${height}`,
    String(rows),
    String(batches),
    partial === 0 ? 'full' : String(partial),
  ]);
  return [title, ...body].map((cells) => cells.map((cell) => cell.padStart(10)).join(' '));
}

function shown(title: string, lines: readonly string[]): string[] {
  if (lines.length === 0) return [];
  const more = lines.length - SHOWN;
  const rest = more > 0 ? [`  and ${more} more; --out has them all`] : [];
  return ['', `${title}:`, ...lines.slice(0, SHOWN).map((line) => `  ${line}`), ...rest];
}
