/** @file Words for prompts that are longer than a text encoder reads. */
import type { PromptTokenizer } from '../models/clip/clip-tokenizer.js';

/** How much of a prompt is shown. */
const SHOWN = 60;

/** Returns null where no text loses its end. */
export function truncationWarning(
  tokenizer: Pick<PromptTokenizer, 'maxLength' | 'truncates' | 'countTokens'>,
  texts: readonly string[],
): string | null {
  const long = [...new Set(texts)].filter((text) => tokenizer.truncates(text));
  const [first = ''] = long;
  if (long.length === 0) return null;
  const { maxLength } = tokenizer;
  const dropped = tokenizer.countTokens(first) - maxLength;
  const name = `"${first.slice(0, SHOWN)}${first.length > SHOWN ? '…' : ''}"`;
  const others = long.length === 1 ? '' : `; ${long.length - 1} more of the prompts are too long`;
  return `A prompt is too long: the model reads ${maxLength} tokens, so the last ${dropped} of ${name} have no effect${others}.`;
}
