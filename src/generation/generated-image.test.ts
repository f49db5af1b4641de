import { basename, isAbsolute } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { promptOptionsSchema } from '../options/generate-options.js';
import { resolveOptions } from '../options/options.js';
import { parametersOf } from './generated-image.js';
import { optionsOf, storedSettings } from './stored-settings.js';

/** What web UIs make of the text: the last line has the settings, lines before it the prompts. */
function readByWebUi(text: string): { prompt: string; negative: string; settings: Map<string, string> } {
  const lines = text.split('\n');
  const last = lines.pop() as string;
  const split = lines.findIndex((line) => line.startsWith('Negative prompt:'));
  const [positive, negative] = split < 0 ? [lines, []] : [lines.slice(0, split), lines.slice(split)];
  const settings = new Map<string, string>();
  for (const [, name = '', value = ''] of last.matchAll(
    /\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)/g,
  ))
    settings.set(name, value.startsWith('"') ? JSON.parse(value) : value);
  return {
    prompt: positive.join('\n'),
    negative: negative.join('\n').replace(/^Negative prompt: /, ''),
    settings,
  };
}

const draw = {
  ...resolveOptions(promptOptionsSchema, { scheduler: 'dpmpp-2m-karras', steps: 20 }),
  ...{ width: 512, height: 768 },
};
const word = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('a, b: "c"', 'Steps: 3, Sampler: x', '(cat:1.2)', '\\', 'line\nline', '<lora:x:1>'),
);

it('is read by web UIs as it was meant, whatever the prompts and paths are', () => {
  fc.assert(
    fc.property(word, word, fc.string({ minLength: 1 }), (prompt, negativePrompt, model) => {
      // The layout cannot tell such lines from its own.
      fc.pre(![prompt, negativePrompt].some((text) => /^Negative prompt:|[\r\u2028]/m.test(text)));
      const text = parametersOf({ prompt, seed: 7, imagePrompts: [] }, { ...draw, negativePrompt }, [], {
        ...{ model, adapters: [], sampler: 'x', device: undefined, dtype: undefined },
      });
      const name = isAbsolute(model) ? basename(model) : model;
      const read = readByWebUi(text);
      expect([read.prompt, read.negative]).toEqual([prompt, negativePrompt]);
      expect(Object.fromEntries(read.settings)).toMatchObject({
        ...{ Steps: '20', Sampler: 'DPM++ 2M', 'Schedule type': 'Karras', 'CFG scale': '7.5' },
        ...{ Seed: '7', Size: '512x768', Model: name.trim() === name ? name : expect.anything() },
      });
    }),
  );
});

it('is stored as options of generate, whatever the prompt is', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (prompt, negativePrompt) => {
      const job = { prompt, seed: 2 ** 40, imagePrompts: [] };
      const options = optionsOf(job, { ...draw, negativePrompt }, [], { model: 'm', adapters: [] }, []);
      const text = storedSettings(options, [1, 3], { device: 'cpu', dtype: 'float32' });
      expect(text).toMatch(/^[ -~]*$/);
      const { options: read, batch } = JSON.parse(text);
      expect(read).toMatchObject({ prompt, negativePrompt, seed: 2 ** 40, steps: 20, model: 'm' });
      expect(batch).toEqual([1, 3]);
    }),
  );
});
