/**
 * @file Reads and writes the files of `torch.save` (`.bin`, `.ckpt`): a zip with `<name>/data.pkl` for the structure and
 * `<name>/data/<key>` for the bytes of each storage (PyTorch torch/serialization.py). Reading executes no code from the
 * file; storages are mapped into memory, not copied.
 */
import { basename, extname } from 'node:path';
import { writeFileAtomically } from '../base/atomic-file.js';
import { CheckpointError } from '../base/errors.js';
import { dtypes } from '../torch/dtype.js';
import { native } from '../torch/native.js';
import { tidy } from '../torch/scope.js';
import { Tensor } from '../torch/tensor.js';
import { contentTensors, pickleTensors, type TensorContent } from './pickle-writer.js';
import { readTensorPickle, type TorchValue } from './tensor-pickle.js';
import { type ZipEntry, ZipReader } from './zip-reader.js';
import { ZipWriter } from './zip-writer.js';

/** Enough for several hundred thousand tensors of about 100 bytes each. */
const MAX_PICKLE = 64 << 20;
/** The copies of non-contiguous views may take this many times the file's size, and 16 MiB more. */
const COPY_FACTOR = 4;
const COPY_ALLOWANCE = 16 << 20;
/** The first bytes of files written before PyTorch 1.6: the pickle of a magic number. */
const LEGACY_MAGIC = Buffer.from('80028a0a6cfc9c46f920', 'hex');

/**
 * Reads a file of `torch.save`. Tensors are contiguous and on the CPU, whichever device they were saved from.
 * @param others what to do with values other than tensors and plain containers, such as the callbacks that PyTorch
 *   Lightning saves beside the weights: 'refuse' throws, 'skip' reads each as an `Unread`
 * @param isNeeded which keys of the outermost dictionary will be used: only their tensors' bytes are read, to verify
 *   checksums
 * @throws {CheckpointError} where the file is missing, truncated, damaged, of the old format, or with 'refuse' contains
 *   other values
 */
export function readTorchZip(
  path: string,
  others: 'refuse' | 'skip' = 'refuse',
  isNeeded?: (key: TorchValue) => boolean,
): TorchValue {
  const zip = new ZipReader(path);
  try {
    checkMagic(zip);
    const entries = zip.entries();
    const pickle = [...entries.values()].find(({ name }) => /^[^/]+\/data\.pkl$/.test(name));
    if (!pickle) return zip.fail('it has no data.pkl');
    if (pickle.size > MAX_PICKLE) zip.fail(`its data.pkl takes ${pickle.size} bytes`);
    const folder = pickle.name.slice(0, -'data.pkl'.length);
    const byteOrder = entries.get(`${folder}byteorder`);
    if (byteOrder && zip.readEntry(byteOrder).toString() !== 'little') zip.fail('its numbers are big-endian');
    const storages = storageEntries(entries, `${folder}data/`);
    return readStructure(zip, pickle, storages, others === 'skip', isNeeded);
  } finally {
    zip.close();
  }
}

/**
 * Writes tensors in lists and dictionaries as a file for `torch.load` (PyTorch 1.6 and later, with and without
 * `weights_only`), atomically.
 */
export function writeTorchZip(path: string, content: TensorContent): void {
  const folder = basename(path, extname(path));
  writeFileAtomically(path, (append) => {
    const zip = new ZipWriter(append);
    zip.add(`${folder}/data.pkl`, pickleTensors(content));
    zip.add(`${folder}/byteorder`, Buffer.from('little'));
    for (const [key, tensor] of contentTensors(content).entries())
      zip.add(`${folder}/data/${key}`, tensor.toBytes());
    zip.add(`${folder}/version`, Buffer.from('3\n'));
    zip.finish();
  });
}

function checkMagic(zip: ZipReader): void {
  const start = zip.read(0, Math.min(zip.size, LEGACY_MAGIC.length), 'its start');
  if (!start.equals(LEGACY_MAGIC)) return;
  throw new CheckpointError(
    `${zip.path} has the torch.save format of PyTorch before 1.6, which is not supported. Save it again in Python: ` +
      `import torch; torch.save(torch.load('${basename(zip.path)}', map_location='cpu'), 'new.bin')`,
  );
}

/** Returns the storages' entries, by key. */
function storageEntries(entries: ReadonlyMap<string, ZipEntry>, folder: string): Map<string, ZipEntry> {
  const storages = [...entries].filter(([name]) => name.startsWith(folder));
  return new Map(storages.map(([name, entry]) => [name.slice(folder.length), entry]));
}

function readStructure(
  zip: ZipReader,
  pickle: ZipEntry,
  entries: ReadonlyMap<string, ZipEntry>,
  skipsOthers: boolean,
  isNeeded: ((key: TorchValue) => boolean) | undefined,
): TorchValue {
  const bytes = zip.readEntry(pickle);
  if (isNeeded === undefined) for (const entry of entries.values()) zip.verify(entry);
  const storageOf = new Map<Tensor, string>();
  return tidy(() => {
    const value = readTensorPickle(bytes, {
      storages: mapStorages(zip.path, entries),
      skipsOthers,
      copyLimit: COPY_FACTOR * zip.size + COPY_ALLOWANCE,
      onTensor: (tensor, key) => storageOf.set(tensor, key),
      fail: (what) => zip.fail(what),
    });
    if (isNeeded !== undefined)
      for (const key of storagesOf(value, isNeeded, storageOf)) zip.verify(entries.get(key) as ZipEntry);
    return value;
  });
}

/** Returns the keys of the storages that the needed part of a structure is in. */
function storagesOf(
  value: TorchValue,
  isNeeded: (key: TorchValue) => boolean,
  storageOf: ReadonlyMap<Tensor, string>,
): Set<string> {
  const keys = new Set<string>();
  const collect = (part: TorchValue): void => {
    if (part instanceof Tensor) keys.add(storageOf.get(part) as string);
    else if (Array.isArray(part)) part.forEach(collect);
    else if (part instanceof Map) for (const child of part.values()) collect(child);
  };
  if (!(value instanceof Map)) collect(value);
  else for (const [key, part] of value) if (isNeeded(key)) collect(part);
  return keys;
}

/** Maps the bytes of each storage; storages that are not aligned are copied. */
function mapStorages(path: string, entries: ReadonlyMap<string, ZipEntry>): Map<string, Tensor> {
  const uint8 = dtypes.uint8.code;
  const handles = native().mapTensors(
    path,
    [...entries.values()].map(({ offset, size }) => [offset, uint8, [size]]),
  );
  return new Map(
    [...entries].map(([key, { offset }], i) => {
      const mapped = new Tensor(handles[i] as number);
      // torch aligns storages, other writers may not; elements of 8 bytes must start at a multiple of 8.
      return [key, offset % 8 === 0 ? mapped : mapped.clone()];
    }),
  );
}
