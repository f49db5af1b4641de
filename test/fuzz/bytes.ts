/** @file Mutations that know nothing of a format: flips, cuts, splices, and numbers at the edges of their ranges. */
import { pick, type Random } from '../../demo/world/random.js';

/** A whole number, 0 ≤ n < bound. */
export function below(bound: number, random: Random): number {
  return Math.floor(random() * bound);
}

/** Where sizes and offsets break: signs, powers of two, the limits of doubles and of 64 bits. */
export const edgeNumbers: readonly bigint[] = [
  ...[0n, 1n, 2n, 3n, 7n, 8n, 100n, 255n, 256n, 65535n, 65536n, 1_000_000n],
  ...[31n, 32n, 40n, 53n, 62n, 63n, 64n].flatMap((bits) => [2n ** bits - 1n, 2n ** bits, 2n ** bits + 1n]),
  ...[-1n, -2n, -8n, -(2n ** 31n), -(2n ** 53n), -(2n ** 63n)],
];

/** Writes a number of 1, 2, 4 or 8 bytes over those at `at`, cut to what fits. */
export function overwrite(bytes: Buffer, at: number, size: number, value: bigint, order: 'LE' | 'BE'): void {
  const field = Buffer.alloc(8);
  if (order === 'LE') field.writeBigUInt64LE(BigInt.asUintN(64, value));
  else field.writeBigUInt64BE(BigInt.asUintN(64, value));
  (order === 'LE' ? field.subarray(0, size) : field.subarray(8 - size)).copy(bytes, at);
}

/** Writes a number in 7 bits a byte (LEB128) over bytes, or in the place of one. */
export function writeVarint(bytes: Buffer, random: Random): Buffer {
  const varint: number[] = [];
  for (let rest = BigInt.asUintN(64, pick(edgeNumbers, random)); ; rest >>= 7n) {
    varint.push(Number(rest & 127n) | (rest < 128n ? 0 : 128));
    if (rest < 128n) break;
  }
  const at = below(bytes.length, random);
  const end = at + pick([1, varint.length], random);
  return Buffer.concat([bytes.subarray(0, at), Buffer.from(varint), bytes.subarray(end)]);
}

type ByteMutation = (bytes: Buffer, random: Random, donor: Buffer) => Buffer;

const byteMutations: readonly ByteMutation[] = [
  (bytes, random) => {
    const flipped = Buffer.from(bytes);
    const at = below(bytes.length, random);
    flipped[at] = (flipped[at] as number) ^ (1 << below(8, random));
    return flipped;
  },
  (bytes, random) => {
    const changed = Buffer.from(bytes);
    changed[below(bytes.length, random)] = pick([0, 1, 0x7f, 0x80, 0xff, below(256, random)], random);
    return changed;
  },
  (bytes, random) => {
    const changed = Buffer.from(bytes);
    const size = pick([2, 4, 8], random);
    overwrite(
      changed,
      below(bytes.length, random),
      size,
      pick(edgeNumbers, random),
      pick(['LE', 'BE'], random),
    );
    return changed;
  },
  (bytes, random) => bytes.subarray(0, below(bytes.length + 1, random)),
  (bytes, random) => {
    const [begin, end] = range(bytes, random);
    return Buffer.concat([bytes.subarray(0, begin), bytes.subarray(end)]);
  },
  (bytes, random) => {
    const [begin, end] = range(bytes, random);
    return Buffer.concat([bytes.subarray(0, end), bytes.subarray(begin)]);
  },
  (bytes, random) => {
    const at = below(bytes.length + 1, random);
    const noise = Buffer.from(Array.from({ length: 1 + below(64, random) }, () => below(256, random)));
    return Buffer.concat([bytes.subarray(0, at), noise, bytes.subarray(at)]);
  },
  (bytes, random, donor) => {
    const [begin, end] = range(donor, random);
    const at = below(bytes.length + 1, random);
    return Buffer.concat([bytes.subarray(0, at), donor.subarray(begin, end), bytes.subarray(at)]);
  },
  (bytes, random, donor) =>
    Buffer.concat([
      bytes.subarray(0, below(bytes.length + 1, random)),
      donor.subarray(below(donor.length + 1, random)),
    ]),
];

/** One to three mutations of one of the seeds. */
export function mutateBytes(seeds: readonly Buffer[], random: Random): Buffer {
  let bytes = pick(seeds, random);
  for (let i = 1 + below(3, random); i > 0 && bytes.length > 0; i--)
    bytes = pick(byteMutations, random)(bytes, random, pick(seeds, random));
  return bytes;
}

function range(bytes: Buffer, random: Random): [begin: number, end: number] {
  const begin = below(bytes.length, random);
  return [begin, begin + 1 + below(Math.min(256, bytes.length - begin), random)];
}
