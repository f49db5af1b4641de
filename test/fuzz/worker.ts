/**
 * @file Reads a range of one kind's inputs in a process of its own, which may crash or hang.
 * Arguments: kind, folder to work in, seed, first index, number. A line of JSON for each input, as soon as it is judged.
 */
import { mkdirSync, writeSync } from 'node:fs';
import { setNumThreads } from '../../src/torch/index.js';
import { attempt, makeInput } from './target.js';
import { kinds } from './targets.js';

const [name = '', folder = '', seed, first, count] = process.argv.slice(2);
const kind = kinds.get(name);
if (kind === undefined) throw new Error(`no kind '${name}'`);
setNumThreads(1);
mkdirSync(folder, { recursive: true });
const target = await kind.create(folder);
// Written at once: what is in a stream's buffer is lost in a crash.
const tell = (line: unknown): void => void writeSync(1, `${JSON.stringify(line)}\n`);
tell({ file: target.file });
for (let index = Number(first); index < Number(first) + Number(count); index++)
  tell(await attempt(target, makeInput(target, Number(seed), index)));
