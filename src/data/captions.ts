/** @file Reads captions from text and from JSON values. */

/** Returns the captions of a text file: each line that is not blank. A file without such lines has one empty caption. */
export function captionLines(text: string): string[] {
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  return lines.length > 0 ? lines : [''];
}

/** Returns the captions of a JSON value: a string, or an array of one or more strings; null for other values. */
export function captionsOf(value: unknown): string[] | null {
  if (typeof value === 'string') return [value];
  const isList = Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string');
  return isList ? (value as string[]) : null;
}

const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * Decodes UTF-8.
 * @throws TypeError where the bytes are not UTF-8, so that no replacement characters are trained on
 */
export function utf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}
