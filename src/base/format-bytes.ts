/** @file Byte counts in words. */

const units = [
  [2 ** 30, 'GiB'],
  [2 ** 20, 'MiB'],
  [2 ** 10, 'KiB'],
] as const;

/** Returns an amount such as '512 B', '4.7 GiB' or '237 MiB': in the largest unit of which there is one. */
export function formatBytes(bytes: number): string {
  const unit = units.find(([size]) => bytes >= size);
  if (unit === undefined) return `${bytes} B`;
  const amount = bytes / unit[0];
  return `${amount.toFixed(amount < 100 ? 1 : 0)} ${unit[1]}`;
}
