/** @file Numbers and times as people read them. */

export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '–';
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48
    ? `${hours} h ${String(minutes % 60).padStart(2, '0')} min`
    : `${Math.round(hours / 24)} days`;
}

export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let [value, unit] = [count, 0];
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Four significant digits, without an exponent where it is easily read. */
export function figure(value: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 10_000) return Math.round(value).toLocaleString('en');
  return size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

export function count(value: number): string {
  return value.toLocaleString('en');
}

export function ago(time: number): string {
  const seconds = Date.now() / 1000 - time;
  return seconds < 5 ? 'now' : `${duration(seconds)} ago`;
}
