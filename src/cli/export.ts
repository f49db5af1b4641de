/** @file `ip-adapter export`: writes an adapter in the form that the target's name asks for. */
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { ConfigError } from '../base/errors.js';
import { assertCanWrite } from '../base/out-file.js';
import { adapterForms } from '../options/adapter-forms.js';

export function exportCommand(): Command {
  return new Command('export')
    .description('Write an adapter as .safetensors or .bin (torch.save), both with the official keys.')
    .argument('<source>', 'adapter file, checkpoint, or output folder of train (its newest checkpoint)')
    .argument('<target>', 'file to write, ending in .safetensors or .bin')
    .option('--force', 'replace the target where it exists')
    .action(async (source, target, { force }) => {
      if (!adapterForms.some((form) => target.endsWith(`.${form}`)))
        throw new ConfigError(
          `The target is ${target}; it must end in ${adapterForms.map((form) => `.${form}`).join(' or ')}`,
        );
      assertSafeName(target);
      assertCanWrite(target, 'the target');
      if (existsSync(target) && !force)
        throw new ConfigError(`${target} exists; give --force to replace it, or another name`);
      const { adapterFileOf } = await import('../adapters/adapter-path.js');
      const { readAdapter, trainedWith, writeAdapter } = await import('../adapters/adapter-file.js');
      const file = adapterFileOf(source, (text) => process.stderr.write(`${text}\n`));
      writeAdapter(target, readAdapter(file), trainedWith(file));
      process.stdout.write(`${target}\n`);
    }) as unknown as Command;
}

/** @throws ConfigError for a name by which ComfyUI_IPAdapter_plus would take the file for another kind (its utils.py) */
function assertSafeName(target: string): void {
  const part = ['unnorm', 'plusv2'].find((name) => basename(target).toLowerCase().includes(name));
  if (part !== undefined)
    throw new ConfigError(
      `The target ${target} has '${part}' in its name, by which ComfyUI takes the file for a FaceID adapter; give it another name`,
    );
}
