/** @file `ip-adapter report`: writes a run as one HTML file. */
import { Command } from '@commander-js/extra-typings';
import { assertCanWrite } from '../base/out-file.js';

export function reportCommand(): Command {
  return new Command('report')
    .description(
      'Write a training run as one HTML file that works offline: what it says of itself, gain, scores, images, loss, settings.',
    )
    .argument('<run>', 'output folder of train, also while it trains')
    .option('--out <file>', 'HTML file to write; default: report.html in the folder')
    .action(async (run, { out }) => {
      if (out !== undefined) assertCanWrite(out, '--out');
      const { writeRunReport } = await import('../training/report.js');
      process.stdout.write(`${await writeRunReport(run, out)}\n`);
    }) as unknown as Command;
}
