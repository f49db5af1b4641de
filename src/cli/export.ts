/** @file `ip-adapter export`: the adapter of a checkpoint, or of a file, in the form that the target's name asks for. */
import { existsSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { ConfigError } from '../base/errors.js';
import { assertFolderFor } from './out-folder.js';

export function exportCommand(): Command {
  return new Command('export')
    .description('Write an adapter as .safetensors or .bin (torch.save), both with the official keys.')
    .argument('<source>', 'checkpoint folder, or adapter file')
    .argument('<target>', 'file to write, ending in .safetensors or .bin')
    .option('--force', 'replace the target where it exists')
    .action(async (source, target, { force }) => {
      if (!/\.(safetensors|bin)$/.test(target))
        throw new ConfigError(`Expected a target that ends in .safetensors or .bin but received ${target}`);
      assertSafeName(target);
      assertFolderFor(target, 'the target');
      if (existsSync(target) && !force)
        throw new ConfigError(`${target} exists; give --force to replace it, or another name`);
      const { adapterFile } = await import('../adapters/adapter-path.js');
      const { readAdapter, writeAdapter } = await import('../adapters/adapter-file.js');
      const isFolder = statSync(source, { throwIfNoEntry: false })?.isDirectory() ?? false;
      writeAdapter(target, readAdapter(isFolder ? join(source, adapterFile) : source));
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
