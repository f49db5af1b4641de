/** @file Hostile torch files: zip records with changed fields, and pickles changed instruction by instruction. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pick, type Random } from '../../demo/world/random.js';
import { readAdapter } from '../../src/adapters/adapter-file.js';
import { readTorchZip, writeTorchZip } from '../../src/formats/index.js';
import { arange, tidy } from '../../src/torch/index.js';
import { code, craftTorchZip } from '../craft-torch-zip.js';
import { below, edgeNumbers, mutateBytes, overwrite } from './bytes.js';
import { touch } from './safetensors.js';
import type { Target } from './target.js';

/** The records of a zip, by signature, with the size of each of their fields (PKWARE APPNOTE 4.3). */
const records = new Map<string, number[]>([
  ['PK\x03\x04', [4, 2, 2, 2, 2, 2, 4, 4, 4, 2, 2]],
  ['PK\x01\x02', [4, 2, 2, 2, 2, 2, 2, 4, 4, 4, 2, 2, 2, 2, 2, 4, 4]],
  ['PK\x05\x06', [4, 2, 2, 2, 2, 4, 4, 2]],
  ['PK\x06\x06', [4, 8, 2, 2, 4, 4, 8, 8, 8, 8]],
  ['PK\x06\x07', [4, 4, 8, 4]],
]);

/** One to three fields of the zip's records get other numbers. */
function mutateZip(seeds: readonly Buffer[], random: Random): Buffer {
  const zip = Buffer.from(pick(seeds, random));
  for (let i = 1 + below(3, random); i > 0; i--) {
    const [signature, sizes] = pick([...records], random);
    const places: number[] = [];
    for (let at = zip.indexOf(signature, 0, 'latin1'); at >= 0; at = zip.indexOf(signature, at + 1, 'latin1'))
      places.push(at);
    if (places.length === 0) continue;
    const field = below(sizes.length, random);
    const at = pick(places, random) + sizes.slice(0, field).reduce((sum, size) => sum + size, 0);
    const value = random() < 0.5 ? pick(edgeNumbers, random) : BigInt(below(zip.length * 2, random));
    if (at + (sizes[field] as number) <= zip.length) overwrite(zip, at, sizes[field] as number, value, 'LE');
  }
  return zip;
}

/** Bytes of argument of each instruction; a text's is its length's size, negative. */
const argumentBytes: Record<string, number> = {
  '\x80': 1,
  '\x95': 8,
  J: 4,
  K: 1,
  M: 2,
  '\x8a': -1,
  '\x8b': -4,
  G: 8,
  X: -4,
  '\x8c': -1,
  '\x8d': -8,
  B: -4,
  C: -1,
  q: 1,
  r: 4,
  h: 1,
  j: 4,
};
const plainInstructions = [...'(012N\x88\x89}dsu])ltae\x85\x86\x87\x94\x93R\x81bQ.'];
const names = [
  'collections\nOrderedDict',
  'torch._utils\n_rebuild_tensor_v2',
  'torch._utils\n_rebuild_tensor_v3',
  'torch._utils\n_rebuild_parameter',
  'torch\nFloatStorage',
  'torch.storage\nUntypedStorage',
  'torch\nfloat16',
  'os\nsystem',
];

/** Takes a pickle apart. */
function instructionsOf(pickle: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at < pickle.length; ) {
    const name = String.fromCharCode(pickle[at] as number);
    const size = argumentBytes[name] ?? 0;
    let end = at + 1 + Math.abs(size);
    if (size === -1) end += pickle[at + 1] as number;
    else if (size < 0) end += pickle.readUInt32LE(at + 1);
    if (name === 'c') end = pickle.indexOf('\n', pickle.indexOf('\n', at) + 1) + 1;
    found.push(pickle.subarray(at, end));
    at = end;
  }
  return found;
}

function anyInstruction(random: Random): Buffer {
  const kind = random();
  if (kind < 0.4) return Buffer.from(pick(plainInstructions, random), 'latin1');
  if (kind < 0.5) return Buffer.from(`c${pick(names, random)}\n`);
  if (kind < 0.6) return code.text(pick(['0', '1', '', 'storage', '__proto__', 'a.weight'], random));
  const [name, size] = pick(Object.entries(argumentBytes), random);
  const bytes = Buffer.alloc(1 + Math.abs(size));
  bytes.write(name, 'latin1');
  const value = random() < 0.6 ? BigInt(below(8, random)) : pick(edgeNumbers, random);
  overwrite(bytes, 1, Math.abs(size), value, 'LE');
  return size < 0 ? Buffer.concat([bytes, Buffer.alloc(below(12, random), '7')]) : bytes;
}

/** One to four instructions deleted, repeated, exchanged, changed, or put in. */
function mutatePickle(pickles: readonly Buffer[], random: Random): Buffer {
  const list = instructionsOf(pick(pickles, random));
  for (let i = 1 + below(4, random); i > 0; i--) {
    const at = below(list.length, random);
    const end = at + 1 + below(4, random);
    const change = below(6, random);
    if (change === 0) list.splice(at, end - at);
    else if (change === 1) list.splice(at, 0, ...list.slice(at, end));
    else if (change === 2) list.splice(at, 1, pick(list, random));
    else if (change === 3) list.splice(at, 1, anyInstruction(random));
    else if (change === 4) list.splice(at, 0, anyInstruction(random));
    else list.splice(at, 0, ...Array.from({ length: 1 + below(2000, random) }, () => list[at] as Buffer));
    if (list.length === 0) break;
  }
  return Buffer.concat(list);
}

function dictionary(...items: Buffer[]): Buffer {
  return Buffer.concat([Buffer.from('}('), ...items, Buffer.from('u')]);
}

/** Pickles without PROTO and STOP, which craftTorchZip adds. */
function seedPickles(): Buffer[] {
  const storage = code.storage('FloatStorage', '0', 6);
  const tensor = code.view(storage, 1, [2, 2], [2, 1]);
  const transposed = code.view(storage, 0, [3, 2], [1, 3]);
  return [
    dictionary(code.text('weight'), tensor, code.text('bias'), transposed),
    dictionary(code.text('state_dict'), dictionary(code.text('a'), tensor), code.text('epoch'), code.int(7)),
    Buffer.concat([
      Buffer.from(']q\0(', 'latin1'),
      tensor,
      Buffer.from('q\x01h\x01h\x01\x86h\x01eh\0\x86', 'latin1'),
    ]),
    Buffer.concat([code.global('collections', 'OrderedDict'), Buffer.from(')R}b')]),
    code.call(
      code.global('torch._utils', '_rebuild_parameter'),
      tensor,
      Buffer.from([0x89]),
      Buffer.from('}'),
    ),
    code.call(
      code.global('torch._utils', '_rebuild_tensor_v3'),
      storage,
      code.int(0),
      code.tuple(code.int(4)),
      code.tuple(code.int(1)),
      Buffer.from([0x89]),
      Buffer.from('}'),
      code.global('torch', 'float16'),
    ),
    Buffer.from(
      '\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fG?\xf0\0\0\0\0\0\0C\x02abJ\x01\0\0\0\x86\x87',
      'latin1',
    ),
  ];
}

const storages = {
  0: new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5).buffer),
  1: new Uint8Array(3),
};

function readBoth(file: string): void {
  // Without the first reading's error the second would not be tried where it matters.
  touch(readTorchZip(file, 'skip'));
  touch(readTorchZip(file));
}

/** The zip around the pickle. */
export function torchZipTarget(folder: string): Target {
  const file = join(folder, 'input.bin');
  const part = new Map([['weight', arange(0, 6)]]);
  writeTorchZip(file, { image_proj: part, ip_adapter: part });
  const written = readFileSync(file);
  craftTorchZip(file, seedPickles()[0] as Buffer, storages, { 'a/byteorder': Buffer.from('little') });
  const seeds = [written, readFileSync(file), Buffer.from('80028a0a6cfc9c46f9206aa850192e', 'hex')];
  const make = (random: Random) => (random() < 0.3 ? mutateBytes(seeds, random) : mutateZip(seeds, random));
  return { file, make, read: () => tidy(() => readBoth(file)) };
}

/** The pickle in a sound zip, with its right checksum. */
export function pickleTarget(folder: string): Target {
  const file = join(folder, 'input.bin');
  return { file, make: makePickles(file, seedPickles()), read: () => tidy(() => readBoth(file)) };
}

/** An adapter's dictionaries. */
export function adapterPickleTarget(folder: string): Target {
  const file = join(folder, 'ip_adapter.bin');
  const tensor = code.view(code.storage('FloatStorage', '0', 6), 0, [1, 2, 3], [6, 3, 1]);
  const adapter = dictionary(
    code.text('image_proj'),
    dictionary(code.text('latents'), tensor),
    code.text('ip_adapter'),
    dictionary(code.text('1.to_k_ip.weight'), tensor),
  );
  return { file, make: makePickles(file, [adapter]), read: () => tidy(() => touch(readAdapter(file))) };
}

function makePickles(file: string, pickles: readonly Buffer[]): (random: Random) => Buffer {
  return (random) => {
    const pickle = random() < 0.15 ? mutateBytes(pickles, random) : mutatePickle(pickles, random);
    return readFileSync(craftTorchZip(file, pickle, storages));
  };
}
