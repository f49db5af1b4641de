/** @file The options of a training run beside its checkpoints, to look up and to repeat it with `--config`. */
import { join } from 'node:path';
import { writeFileAtomically } from '../../base/atomic-file.js';
import { makeFolder } from '../../base/make-folder.js';
import { optionsYaml } from '../../options/options-file.js';
import { effectiveOptions, type ResolvedTrainOptions } from '../../options/train-options.js';

const savedOptionsFile = 'config.yaml';

const heading = `# The options of this run that have an effect, every default filled in. To repeat it, from the same current directory:
#     ip-adapter train --config <this file> --output-dir <another folder>
`;

/** Writes `outputDir/config.yaml`; one of an earlier start is replaced. */
export function saveOptions(outputDir: string, options: ResolvedTrainOptions): void {
  // The checkpoint that a run resumed from is not part of it: repeated, it starts afresh and ends the same.
  const { resume: _, ...repeatable } = effectiveOptions(options);
  makeFolder(outputDir);
  const content = Buffer.from(heading + optionsYaml(repeatable));
  writeFileAtomically(join(outputDir, savedOptionsFile), (append) => append(content));
}
