/** @file Captions, as files give them. */

/** The captions of a text file: each line that is not blank is one; a file without any has the empty caption. */
export function captionLines(text: string): string[] {
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  return lines.length > 0 ? lines : [''];
}

/** A string, or an array of one string or more, as captions; null where it is neither. */
export function captionsOf(value: unknown): string[] | null {
  if (typeof value === 'string') return [value];
  const isList = Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string');
  return isList ? (value as string[]) : null;
}

const decoder = new TextDecoder('utf-8', { fatal: true });

/** @throws TypeError where the bytes are not UTF-8: they would otherwise train with replacement signs for letters. */
export function utf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}
