/** @file The option that names a LoRA and its strength. */
import { z } from 'zod';
import { number, path } from './options.js';

/** A LoRA of the base model. */
export interface LoraOptions {
  /** `.safetensors` or `.bin` file, folder or name on the Hub. */
  path: string;
  /** Strength, −100 … 100, 1 as trained. @default 1 */
  scale?: number | undefined;
}

/** The strength of a LoRA. */
export const loraScale = number(-100, 100);

/** A LoRA as text, `path` or `path:scale`, or as an object. */
export const lora = z.union(
  [
    path.transform((text, context): { path: string; scale: number } => {
      const [, file = text, written] = /^(.+?):([^/:]*)$/s.exec(text) ?? [];
      const parsed = loraScale.safeParse(written === undefined ? 1 : Number(written.trim() || Number.NaN));
      if (!parsed.success) context.addIssue('must end in a strength');
      return { path: file, scale: parsed.data ?? 1 };
    }),
    z.strictObject({ path, scale: loraScale.default(1) }).meta({ tsType: 'LoraOptions' }),
  ],
  { error: 'must be a path, path:scale with a scale from -100 to 100, or { path, scale }' },
);
