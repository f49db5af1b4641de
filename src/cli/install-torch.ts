/** @file `ip-adapter install-torch`: downloads and unpacks a LibTorch, without Python and without root. */
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { libTorchFolder } from '../../tools/cache-folder.mjs';
import { findLibTorch, type LibTorch } from '../../tools/find-libtorch.mjs';
import { ConfigError } from '../base/errors.js';
import { builtInTorch, type TorchArchive } from '../hub/torch-archives.js';
import { withCtrlC } from './abort.js';

interface Flags {
  url?: string[] | undefined;
  sha256?: string[] | undefined;
}

export function installTorchCommand(): Command {
  return new Command('install-torch')
    .description(
      'Download LibTorch, without Python and without root, into the cache: the build uses it then.',
    )
    .argument('<backend>', 'what it computes on: cpu, or a version of CUDA such as cu130')
    .option(
      '--url <address...>',
      'archives of another LibTorch: a zip of pytorch.org, or wheels (torch first, then those of its CUDA libraries)',
    )
    .option('--sha256 <hex...>', 'the SHA-256 of each --url, in the same order')
    .action((backend, flags) =>
      withCtrlC(async (signal) => {
        const archives = archivesOf(backend, flags);
        const folder = libTorchFolder();
        const { installLibTorch } = await import('../hub/install-libtorch.js');
        const say = (message: string): void => void process.stderr.write(`${message}\n`);
        try {
          const installed = await installLibTorch({
            folder,
            backend,
            archives,
            check: (unpacked) => void libTorchIn(unpacked),
            onMessage: say,
            signal,
          });
          const { version } = libTorchIn(installed);
          process.stdout.write(`LibTorch ${version} (${backend}) is in ${installed}\n`);
          if (process.env.LIBTORCH)
            say(`The build uses LIBTORCH=${process.env.LIBTORCH} instead, until it is unset.`);
          else say('The next use builds the addon for it, or now: ip-adapter build');
        } catch (error) {
          if (signal.aborted) say('Stopped. The same command continues the download.');
          throw error;
        }
      }, true),
    ) as unknown as Command;
}

function archivesOf(backend: string, { url: urls = [], sha256: sums = [] }: Flags): readonly TorchArchive[] {
  if (!/^[a-z][a-z0-9.]*$/.test(backend))
    throw new ConfigError(
      `The backend is ${backend}; it must be cpu, or a version of CUDA such as cu130, in lower case`,
    );
  if (urls.length !== sums.length)
    throw new ConfigError(
      `--url is given ${urls.length} times and --sha256 ${sums.length} times; each archive needs both`,
    );
  if (urls.length === 0) {
    const builtIn = builtInTorch();
    const archives = builtIn[backend];
    if (archives !== undefined) return archives;
    const names = Object.keys(builtIn).join(' and ') || 'nothing';
    throw new ConfigError(
      `For ${process.platform} on ${process.arch}, ${names} can be installed by name but not ${backend}; give its archive by --url, and the SHA-256 that its publisher says by --sha256`,
    );
  }
  return urls.map((url, i) => {
    const sha256 = (sums[i] as string).toLowerCase();
    if (!/^https?:\/\/[^/]+\/./.test(url) || !URL.canParse(url))
      throw new ConfigError(`--url is ${url}; it must be an address of http or https`);
    if (!/^[0-9a-f]{64}$/.test(sha256))
      throw new ConfigError(`--sha256 is ${sums[i]}; it must have 64 hexadecimal digits`);
    return { url, sha256 };
  });
}

/** The machine in the header of an ELF file (System V ABI, e_machine), by Node's names of processors. */
const machines: Readonly<Record<string, number>> = { x64: 62, arm64: 183 };

/** Returns the LibTorch in an unpacked folder. @throws ConfigError where there is none for this machine */
function libTorchIn(folder: string): LibTorch {
  const reasons: string[] = [];
  for (const name of ['torch', 'libtorch']) {
    const { libtorch, tried } = findLibTorch({ ...process.env, LIBTORCH: join(folder, name) });
    if (libtorch === null) {
      reasons.push(...tried.map(({ why }) => why.replaceAll(`${folder}/`, '')));
      continue;
    }
    const machine = machineOf(join(libtorch.lib, 'libtorch_cpu.so'));
    if (process.platform !== 'linux' || machine === machines[process.arch]) return libtorch;
    reasons.push(`its libraries are for another processor than ${process.arch}`);
  }
  throw new ConfigError(`The archives do not have a LibTorch for this machine: ${reasons.join('; ')}`);
}

function machineOf(library: string): number | null {
  if (process.platform !== 'linux') return null;
  const header = Buffer.alloc(20);
  const file = openSync(library, 'r');
  try {
    readSync(file, header, 0, header.length, 0);
  } finally {
    closeSync(file);
  }
  return header.toString('latin1', 0, 4) === '\x7fELF' ? header.readUInt16LE(18) : null;
}
