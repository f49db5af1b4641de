/**
 * @file The random choices about rows, each a pure function of (seed, epoch, …): the order of an epoch, the conditions that a
 * row drops, its caption, and whether it is mirrored. So a resumed run makes the same choices without saved state.
 *
 * The numbers come from a hash (the finaliser of MurmurHash3, a bijection on 32 bits that mixes every bit into every
 * other) and, where many are needed, from xoshiro128** (Blackman and Vigna, "Scrambled linear pseudorandom number
 * generators") seeded by that hash. Every kind of choice has its own stream number, so that they are independent. The
 * distribution is that of the original; the numbers themselves differ from Python's.
 */

/** The conditions that a row drops in one epoch. */
export interface Drop {
  readonly dropImage: boolean;
  readonly dropText: boolean;
}

/** The shares of rows that drop the image only, the text only, or both; their sum is at most 1. */
export interface DropRates {
  readonly image: number;
  readonly text: number;
  readonly both: number;
}

/** As in the original's `MyDataset`. */
const defaultDropRates: DropRates = { image: 0.05, text: 0.05, both: 0.05 };

const ORDER_STREAM = 1;
const DROP_STREAM = 2;
const CAPTION_STREAM = 3;
const BATCH_ORDER_STREAM = 4;
const FLIP_STREAM = 5;
const SHARD_ORDER_STREAM = 6;
const SHARD_ROWS_STREAM = 7;
const REFERENCE_STREAM = 8;
const PART_STREAM = 9;
const VARIANT_STREAM = 10;
const CACHED_VARIANT_STREAM = 11;

/**
 * Returns the order of the rows 0 … n-1 in one epoch: a uniform random permutation (Fisher–Yates).
 * @param seed and `epoch`: whole numbers, 0 to 2^53 - 1
 */
export function shuffledIndices(seed: number, epoch: number, n: number): Uint32Array {
  return permutation([ORDER_STREAM, seed, epoch], n);
}

/** Returns the order of the batches 0 … n-1 in one epoch, for batches that are composed before: as `shuffledIndices`. */
export function shuffledBatches(seed: number, epoch: number, n: number): Uint32Array {
  return permutation([BATCH_ORDER_STREAM, seed, epoch], n);
}

/** Returns the order of a dataset's shards 0 … n-1 in one epoch: as `shuffledIndices`. */
export function shuffledShards(seed: number, epoch: number, n: number): Uint32Array {
  return permutation([SHARD_ORDER_STREAM, seed, epoch], n);
}

/** Returns the order of the rows 0 … n-1 of a shard in one epoch: as `shuffledIndices`. */
export function shuffledShardRows(seed: number, epoch: number, shard: number, n: number): Uint32Array {
  return permutation([SHARD_ROWS_STREAM, seed, epoch, shard], n);
}

/** Returns the order in which rows 0 … n-1 of a dataset, of several, are taken once more in one epoch: as `shuffledIndices`. */
export function shuffledPart(seed: number, epoch: number, dataset: number, n: number): Uint32Array {
  return permutation([PART_STREAM, seed, epoch, dataset], n);
}

/** Returns whether row `index` is mirrored in `epoch`, with probability 1/2. */
export function flipFor(seed: number, epoch: number, index: number): boolean {
  return hash([FLIP_STREAM, seed, epoch, index]) < 2 ** 31;
}

function permutation(keys: readonly number[], n: number): Uint32Array {
  const order = new Uint32Array(n);
  for (let i = 0; i < n; i++) order[i] = i;
  const next = xoshiro128(hash(keys));
  for (let i = n - 1; i > 0; i--) {
    const j = below(next, i + 1);
    const row = order[i]!;
    order[i] = order[j]!;
    order[j] = row;
  }
  return order;
}

/** Returns what row `index` drops in `epoch`, by one uniform number as in the original: < 0.05 image, < 0.10 text, < 0.15 both. */
export function dropFor(
  seed: number,
  epoch: number,
  index: number,
  { image, text, both: bothRate }: DropRates = defaultDropRates,
): Drop {
  const u = hash([DROP_STREAM, seed, epoch, index]) / 2 ** 32;
  if (u < image) return { dropImage: true, dropText: false };
  if (u < image + text) return { dropImage: false, dropText: true };
  const both = u < image + text + bothRate;
  return { dropImage: both, dropText: both };
}

/** Returns which of its `count` captions row `index` uses in `epoch`: 0 … count - 1, uniformly distributed. */
export function captionFor(seed: number, epoch: number, index: number, count: number): number {
  return Math.floor((hash([CAPTION_STREAM, seed, epoch, index]) / 2 ** 32) * count);
}

/**
 * Returns which of `available` other rows row `index` takes as references in `epoch`: `count` of them, distinct as far as
 * there are enough, then the same again. The beginning of a uniform random permutation (Fisher–Yates).
 * @param available 1 or more
 */
export function referencesFor(
  seed: number,
  epoch: number,
  index: number,
  { available, count }: { available: number; count: number },
): number[] {
  const next = xoshiro128(hash([REFERENCE_STREAM, seed, epoch, index]));
  /** The places whose value is not their own number: a group may be large, and few of it are drawn. */
  const moved = new Map<number, number>();
  const drawn: number[] = [];
  for (let i = 0; i < Math.min(count, available); i++) {
    const j = i + below(next, available - i);
    drawn.push(moved.get(j) ?? j);
    moved.set(j, moved.get(i) ?? i);
  }
  return Array.from({ length: count }, (_, i) => drawn[i % drawn.length]!);
}

/**
 * Returns the number that decides how a reference is varied, see `uniform`.
 * @param index the number that the row is drawn by
 * @param place of the reference among those of the row
 */
export function variantFor(seed: number, epoch: number, index: number, place: number): number {
  return hash([VARIANT_STREAM, seed, epoch, index, place]);
}

/** Returns the number of the variants that a cache has of a row's reference, see `variantFor`. It depends on no seed. */
export function cachedVariant(row: number, variant: number): number {
  return hash([CACHED_VARIANT_STREAM, row, variant]);
}

/** Returns a generator of uniform numbers in [0, 1). @param from 0 … 2^32 - 1 */
export function uniform(from: number): () => number {
  const next = xoshiro128(from);
  return () => next() / 2 ** 32;
}

/** Returns a whole number in [0, 2^32) that depends on every bit of every key; keys are whole numbers in [0, 2^53). */
function hash(keys: readonly number[]): number {
  let h = 0;
  for (const key of keys) {
    h = mix(h + 0x9e3779b9 + (key >>> 0));
    h = mix(h + 0x9e3779b9 + Math.floor(key / 2 ** 32));
  }
  return h;
}

/** MurmurHash3's 32-bit finaliser. */
function mix(x: number): number {
  let h = x | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Returns a xoshiro128** generator of whole numbers in [0, 2^32), whose state is filled from `seed` by the hash. */
function xoshiro128(seed: number): () => number {
  // Four different keys of a bijection: at most one word can be zero, and only the all-zero state is invalid.
  let [a, b, c, d] = [0, 1, 2, 3].map((word) => mix(seed + Math.imul(word, 0x9e3779b9))) as [
    number,
    number,
    number,
    number,
  ];
  return () => {
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotateLeft(d, 11);
    return result;
  };
}

function rotateLeft(x: number, k: number): number {
  return (x << k) | (x >>> (32 - k));
}

/** Returns a uniform whole number in [0, bound). Draws from the incomplete last multiple of `bound` are rejected. */
function below(next: () => number, bound: number): number {
  const limit = 2 ** 32 - (2 ** 32 % bound);
  for (;;) {
    const x = next();
    if (x < limit) return x % bound;
  }
}
