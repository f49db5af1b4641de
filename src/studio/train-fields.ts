/** @file Describes the options of a training for a form. */
import { z } from 'zod';
import { presetNames, presets, presetTexts } from '../options/presets.js';
import { trainOptionsSchema } from '../options/train-options.js';

export interface OptionField {
  name: string;
  kind: 'text' | 'number' | 'switch' | 'choice' | 'list';
  choices?: string[];
  fallback?: unknown;
  isRequired: boolean;
  help: string;
}

interface JsonSchema {
  type?: string;
  enum?: string[];
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  default?: unknown;
  description?: string;
}

/** Options that the studio sets itself. */
const own = new Set(['outputDir', 'resume', 'requests']);

export function trainFields(): OptionField[] {
  const schema = z.toJSONSchema(trainOptionsSchema, { io: 'input', unrepresentable: 'any' });
  const required = new Set(schema.required);
  return Object.entries(schema.properties as Record<string, JsonSchema>)
    .filter(([name]) => !own.has(name))
    .map(([name, one]) => {
      const types = [one, ...(one.anyOf ?? [])];
      const is = (type: string): boolean => types.some((some) => some.type === type);
      const kind = one.enum
        ? 'choice'
        : is('array')
          ? 'list'
          : is('boolean')
            ? 'switch'
            : is('number') || is('integer')
              ? 'number'
              : 'text';
      return {
        ...{ name, kind, isRequired: required.has(name), help: one.description ?? '' },
        ...(one.enum ? { choices: one.enum } : {}),
        ...(one.default === undefined ? {} : { fallback: one.default }),
      };
    });
}

/** A preset of training options, for a form. */
export interface PresetField {
  name: string;
  help: string;
  sets: Readonly<Record<string, unknown>>;
}

export function presetFields(): PresetField[] {
  return presetNames.map((name) => ({ name, help: presetTexts[name], sets: presets[name] }));
}
