/**
 * @file Reads and writes safetensors files (huggingface/safetensors, README "Format"): an 8-byte little-endian header length,
 * a JSON header, the data. Files are mapped into memory, so that nothing is copied and only the pages in use are read. Every
 * field of the header is checked before the file is mapped.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { writeFileAtomically } from '../base/atomic-file.js';
import { CheckpointError, shown } from '../base/errors.js';
import { regularFile } from '../base/regular-file.js';
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
  /** Bytes from the start of the file. */
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
    file = openSync(regularFile(path), 'r');
  } catch (cause) {
    throw new CheckpointError(
      `Expected a safetensors file at ${path} but it cannot be opened: ${(cause as Error).message}`,
      { cause },
    );
  }
  try {
    const status = fstatSync(file);
    if (status.size < 8) fail(`it has ${status.size} bytes, and the header's length alone takes 8`);
    const lengthBytes = Buffer.alloc(8);
    readSync(file, lengthBytes, 0, 8, 0);
    const headerLength = Number(lengthBytes.readBigUInt64LE());
    if (headerLength > status.size - 8)
      fail(
        `its header claims ${headerLength} bytes, but only ${status.size - 8} follow; it is truncated or not a safetensors file`,
      );
    if (headerLength > maxHeaderBytes)
      fail(`its header claims ${headerLength} bytes, more than the format allows`);
    const text = Buffer.alloc(headerLength);
    readSync(file, text, 0, headerLength, 8);
    let header: unknown;
    try {
      header = JSON.parse(text.toString('utf8'));
    } catch (cause) {
      fail(`its header is not JSON (${(cause as Error).message})`);
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
    return fail('its header is not a JSON object');
  const entries: SafetensorsEntry[] = [];
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') {
      if (!isStringRecord(value)) return fail('its __metadata__ is not an object of strings');
      metadata = value;
      continue;
    }
    const {
      dtype,
      shape,
      data_offsets: offsets,
    } = (value ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
    const dtypeName = typeof dtype === 'string' ? dtypeOfSafetensors(dtype) : undefined;
    if (dtypeName === undefined) {
      const isFp8 = typeof dtype === 'string' && dtype.startsWith('F8');
      return fail(
        `tensor '${name}' has the dtype ${shown(dtype)}, which is not supported${isFp8 ? ': fp8 weights cannot be read, use the file with float16, bfloat16 or float32 weights' : ''}`,
      );
    }
    if (!isSizes(shape) || !isAddressable(shape)) return fail(`tensor '${name}' has no valid shape`);
    if (!isSizes(offsets) || offsets.length !== 2) return fail(`tensor '${name}' has no valid data_offsets`);
    const [begin = 0, end = 0] = offsets;
    const bytes = shape.reduce((product, size) => product * size, dtypes[dtypeName].bytes);
    if (end - begin !== bytes)
      return fail(
        `tensor '${name}' of shape [${shape.join(', ')}] and dtype ${dtype} needs ${bytes} bytes but its offsets span ${end - begin}`,
      );
    if (dataStart + end > fileSize)
      return fail(
        `tensor '${name}' ends at byte ${dataStart + end}, but the file has ${fileSize}; it is truncated`,
      );
    entries.push({ name, dtype: dtypeName, shape, offset: dataStart + begin, bytes });
  }
  assertDisjoint(entries, fail);
  return { entries, metadata };
}

/** Refuses tensors that overlap: their copies could take much more memory than the file. */
function assertDisjoint(entries: readonly SafetensorsEntry[], fail: (what: string) => never): void {
  let previous: SafetensorsEntry | undefined;
  for (const entry of entries.filter(({ bytes }) => bytes > 0).sort((a, b) => a.offset - b.offset)) {
    if (previous !== undefined && entry.offset < previous.offset + previous.bytes)
      fail(`its tensors '${previous.name}' and '${entry.name}' overlap`);
    previous = entry;
  }
}

function isStringRecord(value: unknown): value is Record<string, string> {
  return (
    value !== null &&
    typeof value === 'object' &&
    !Array.isArray(value) &&
    Object.values(value).every((text) => typeof text === 'string')
  );
}

/** Whether LibTorch accepts the shape. With a size of 0 it takes no bytes, but its other sizes must be valid too. */
function isAddressable(shape: readonly number[]): boolean {
  const span = shape.reduce((product, size) => product * Math.max(size, 1), 1);
  return shape.length <= maxDimensions && span <= Number.MAX_SAFE_INTEGER;
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

/**
 * Reads the tensors of a file, mapped into memory, in the header's order. Writing to a tensor does not change the file.
 * @throws CheckpointError where the file is missing, truncated or malformed.
 */
export function readSafetensors(path: string): {
  tensors: Map<string, Tensor>;
  metadata: Record<string, string>;
} {
  const { entries, metadata } = readHeader(path);
  const handles = native.mapTensors(
    path,
    entries.map(({ offset, dtype, shape }) => [offset, dtypes[dtype].code, shape]),
  );
  return {
    tensors: new Map(entries.map(({ name }, i) => [name, new Tensor(handles[i] as number)])),
    metadata,
  };
}

/** Writes tensors in the map's order, atomically. */
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

/** Returns the size in bytes of the file that `writeSafetensors` would write. */
export function safetensorsSize(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Record<string, string> = {},
): number {
  return (
    headerOf(tensors, metadata).length + [...tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0)
  );
}

/** Returns the bytes before the data: the header's length and the header. */
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
  // Spaces align the data to 8 bytes, so that readers can map it.
  const padding = (8 - (text.length % 8)) % 8;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length + padding));
  return Buffer.concat([length, text, Buffer.alloc(padding, ' ')]);
}
