/** @file Saves the options of a training run in its output folder, to look them up and to repeat the run with `--config`. */
import { join } from 'node:path';
import { writeFileAtomically } from '../../base/atomic-file.js';
import { makeFolder } from '../../base/make-folder.js';
import { optionsYaml } from '../../options/options-file.js';
import { effectiveOptions, type ResolvedTrainOptions } from '../../options/train-options.js';

const savedOptionsFile = 'config.yaml';

const heading = `# The options of this run that have an effect, with every default. To repeat the run from the same current directory:
#     ip-adapter train --config <this file> --output-dir <another folder>
`;

/** Writes `outputDir/config.yaml`, and replaces an existing one. */
export function saveOptions(outputDir: string, options: ResolvedTrainOptions): void {
  // Without `resume`: a repeated run starts from the beginning and ends with the same result.
  const { resume: _, ...repeatable } = effectiveOptions(options);
  makeFolder(outputDir);
  const content = Buffer.from(heading + optionsYaml(repeatable));
  writeFileAtomically(join(outputDir, savedOptionsFile), (append) => append(content));
}
