/** @file `ip-adapter build`: compiles the native addon, which otherwise happens at the first use. */
import { Command } from '@commander-js/extra-typings';
import { buildNative, progressLine, SetupError } from '../../tools/build-native.mjs';
import { ConfigError } from '../base/errors.js';

export function buildCommand(): Command {
  return new Command('build')
    .description('Build the native addon now instead of at the first use.')
    .option('--force', 'build it again, even if it is up to date')
    .action(async ({ force = false }) => {
      try {
        const { path, built } = await buildNative(progressLine(process.stderr, ''), { force });
        process.stdout.write(`${built ? 'Built' : 'Up to date:'} ${path}\n`);
      } catch (cause) {
        if (!(cause instanceof SetupError)) throw cause;
        throw new ConfigError(cause.message, { cause });
      }
    }) as unknown as Command;
}
