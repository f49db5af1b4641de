/**
 * @file The safetensors format (huggingface/safetensors, README "Format"): an 8-byte little-endian header length,
 * a JSON header, the data. Files are read by mapping them into memory: no copy, and pages that no one touches
 * never leave the disk. Every field of the header is checked before the file is mapped.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { writeFileAtomically } from '../base/atomic-file.js';
import { CheckpointError, shown } from '../base/errors.js';
import { type DType, dtypeOfSafetensors, dtypes } from '../torch/dtype.js';
import { native } from '../torch/native.js';
import { Tensor } from '../torch/tensor.js';

/** The reference implementation's limit on headers. */
const maxHeaderBytes = 100_000_000;
/** LibTorch's own limit in most operators. */
const maxDimensions = 64;

interface SafetensorsEntry {
  name: string;
  dtype: DType;
  shape: readonly number[];
  /** From the start of the file. */
  offset: number;
  bytes: number;
}

interface SafetensorsHeader {
  entries: SafetensorsEntry[];
  metadata: Record<string, string>;
}

/**
 * Reads and checks a file's header.
 * @throws CheckpointError where the file is missing, truncated or malformed.
 */
function readHeader(path: string): SafetensorsHeader {
  const fail = (what: string): never => {
    throw new CheckpointError(
      `${path} is not a usable safetensors file: ${what}. Get or export the file again.`,
    );
  };
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (cause) {
    throw new CheckpointError(
      `Expected a safetensors file at ${path} but it cannot be opened: ${(cause as Error).message}`,
      { cause },
    );
  }
  try {
    const status = fstatSync(file);
    if (!status.isFile()) fail('it is not a regular file');
    if (status.size < 8) fail(`it has ${status.size} bytes, and 8 are needed for the header's length alone`);
    const lengthBytes = Buffer.alloc(8);
    readSync(file, lengthBytes, 0, 8, 0);
    const headerLength = Number(lengthBytes.readBigUInt64LE());
    if (headerLength > status.size - 8)
      fail(
        `its header claims ${headerLength} bytes, but only ${status.size - 8} follow; it is truncated or no safetensors file`,
      );
    if (headerLength > maxHeaderBytes)
      fail(`its header claims ${headerLength} bytes, more than the format allows`);
    const text = Buffer.alloc(headerLength);
    readSync(file, text, 0, headerLength, 8);
    let header: unknown;
    try {
      header = JSON.parse(text.toString('utf8'));
    } catch (cause) {
      fail(`its header is no JSON (${(cause as Error).message})`);
    }
    return checkHeader(header, 8 + headerLength, status.size, fail);
  } finally {
    closeSync(file);
  }
}

function checkHeader(
  header: unknown,
  dataStart: number,
  fileSize: number,
  fail: (what: string) => never,
): SafetensorsHeader {
  if (header === null || typeof header !== 'object' || Array.isArray(header))
    return fail('its header is no JSON object');
  const entries: SafetensorsEntry[] = [];
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') {
      if (!isTexts(value)) return fail('its __metadata__ is no object of texts');
      metadata = value;
      continue;
    }
    const {
      dtype,
      shape,
      data_offsets: offsets,
    } = (value ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
    const known = typeof dtype === 'string' ? dtypeOfSafetensors(dtype) : undefined;
    if (known === undefined)
      return fail(`tensor '${name}' has the dtype ${shown(dtype)}, which is not supported`);
    if (!isSizes(shape) || !isAddressable(shape)) return fail(`tensor '${name}' has no valid shape`);
    if (!isSizes(offsets) || offsets.length !== 2) return fail(`tensor '${name}' has no valid data_offsets`);
    const [begin = 0, end = 0] = offsets;
    const bytes = shape.reduce((product, size) => product * size, dtypes[known].bytes);
    if (end - begin !== bytes)
      return fail(
        `tensor '${name}' of shape [${shape.join(', ')}] and dtype ${dtype} needs ${bytes} bytes but its offsets span ${end - begin}`,
      );
    if (dataStart + end > fileSize)
      return fail(
        `tensor '${name}' ends at byte ${dataStart + end}, but the file has ${fileSize}; it is truncated`,
      );
    entries.push({ name, dtype: known, shape, offset: dataStart + begin, bytes });
  }
  assertApart(entries, fail);
  return { entries, metadata };
}

/** Tensors that share bytes would together take more memory than the file, where they have to be copied. */
function assertApart(entries: readonly SafetensorsEntry[], fail: (what: string) => never): void {
  let before: SafetensorsEntry | undefined;
  for (const entry of entries.filter(({ bytes }) => bytes > 0).sort((a, b) => a.offset - b.offset)) {
    if (before !== undefined && entry.offset < before.offset + before.bytes)
      fail(`its tensors '${before.name}' and '${entry.name}' lie over one another`);
    before = entry;
  }
}

function isTexts(value: unknown): value is Record<string, string> {
  return (
    value !== null &&
    typeof value === 'object' &&
    !Array.isArray(value) &&
    Object.values(value).every((text) => typeof text === 'string')
  );
}

/** Whether LibTorch can have the shape; one with a size of 0 takes no bytes, whatever its other sizes. */
function isAddressable(shape: readonly number[]): boolean {
  const span = shape.reduce((product, size) => product * Math.max(size, 1), 1);
  return shape.length <= maxDimensions && span <= Number.MAX_SAFE_INTEGER;
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

/**
 * The tensors of a file, mapped into memory, in the header's order. A write to one changes memory, not the file.
 * @throws CheckpointError where the file is missing, truncated or malformed.
 */
export function readSafetensors(path: string): {
  tensors: Map<string, Tensor>;
  metadata: Record<string, string>;
} {
  const { entries, metadata } = readHeader(path);
  const handles = native().mapTensors(
    path,
    entries.map(({ offset, dtype, shape }) => [offset, dtypes[dtype].code, shape]),
  );
  return {
    tensors: new Map(entries.map(({ name }, i) => [name, new Tensor(handles[i] as number)])),
    metadata,
  };
}

/** Writes tensors in the map's order. The path never holds half a file. */
export function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Record<string, string> = {},
): void {
  const header = headerOf(tensors, metadata);
  writeFileAtomically(path, (append) => {
    append(header);
    for (const tensor of tensors.values()) append(tensor.toBytes());
  });
}

/** Bytes of the file that `writeSafetensors` would write. */
export function safetensorsSize(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Record<string, string> = {},
): number {
  return (
    headerOf(tensors, metadata).length + [...tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0)
  );
}

/** What comes before the values: the header with its length. */
function headerOf(tensors: ReadonlyMap<string, Tensor>, metadata: Record<string, string>): Buffer {
  const header: Record<string, unknown> = {};
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  let offset = 0;
  for (const [name, { dtype, shape, bytes }] of tensors) {
    const end = offset + bytes;
    header[name] = { dtype: dtypes[dtype].safetensors, shape, data_offsets: [offset, end] };
    offset = end;
  }
  const text = Buffer.from(JSON.stringify(header));
  // Spaces align the data, so that a reader can map it.
  const padding = (8 - (text.length % 8)) % 8;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length + padding));
  return Buffer.concat([length, text, Buffer.alloc(padding, ' ')]);
}
