/**
 * @file Which fused attention runs on the CPU where LibTorch has one too: LibTorch's, or ours (native/kernels/attention.cc). A
 * table decides, by the shape and by LibTorch's version: the two add in another order, so a choice that a measurement makes
 * would end bit-exact resuming, and equal sums of several processes. Measured by bench/attention.ts.
 */
import type { DType } from '../torch/index.js';

/** A checkpoint has the version of its run's table. 1: always LibTorch's. 2: that as well before LibTorch 2.13. */
export type AttentionTable = 1 | 2 | 3;
export const newestAttentionTable: AttentionTable = 3;

let table: AttentionTable = newestAttentionTable;

/** Sets the table, for the whole process. */
export function setAttentionTable(version: AttentionTable): void {
  table = version;
}

/** The first version of LibTorch 2 that was measured, by table: with it ours is faster, as with 2.13. */
const MEASURED = { 2: 13, 3: 6 } as const;

/**
 * Returns whether ours is to be preferred to LibTorch's.
 * @param n queries, m keys, width of a head
 * @param torchVersion such as '2.13.0'
 */
export function prefersOurAttention(
  { n, m, width, dtype }: { n: number; m: number; width: number; dtype: DType },
  torchVersion: string,
): boolean {
  if (table === 1) return false;
  const [major = 0, minor = 0] = torchVersion.split('.').map(Number);
  const isMeasured = major > 2 || (major === 2 && minor >= MEASURED[table]);
  // Ours computes in float32, which a processor with bfloat16 products need not do.
  if (!isMeasured || dtype !== 'float32' || width > 160) return false;
  // Self-attention of the large levels of a UNet, and text with its 77 tokens. Elsewhere LibTorch's is as fast or faster: with
  // few keys as image tokens are, and in small levels.
  return (n >= 1024 && m >= 1024) || (n >= 256 && m >= 64 && m <= 128);
}
