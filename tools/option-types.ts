/**
 * @file The types of options as TypeScript, from their schemas: an editor shows what an option is, which it cannot take
 * from a schema's descriptions. `npm run types` writes them.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { checkOptionsSchema } from '../src/options/check-options.js';
import { embedOptionsSchema } from '../src/options/embed-options.js';
import { evaluateOptionsSchema } from '../src/options/evaluate-options.js';
import {
  drawOptionsSchema,
  generateOptionsSchema,
  jobSchema,
  pipelineOptionsSchema,
  promptOptionsSchema,
} from '../src/options/generate-options.js';
import { trainOptionsSchema } from '../src/options/train-options.js';

interface JsonSchema {
  type?: string;
  const?: unknown;
  enum?: string[];
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  prefixItems?: JsonSchema[];
  properties?: Record<string, JsonSchema>;
  required?: string[];
  default?: unknown;
  description?: string;
  /** The type where JSON has none, from the schema's `meta`. */
  tsType?: string;
}

const LINE_WIDTH = 110;

/** Returns the files of src/options that hold types, by name. */
export function typeFiles(): Record<string, string> {
  return {
    'train-types.ts': optionTypes({
      TrainOptions: ['The options of `train` and `dryRun`.', trainOptionsSchema],
      CheckOptions: ['The options of `checkDataset`.', checkOptionsSchema],
    }),
    'generate-types.ts': optionTypes(
      {
        GenerateOptions: ['The options of `generate`: models and prompts.', generateOptionsSchema],
        PipelineOptions: ['The models of an `IPAdapterPipeline`.', pipelineOptionsSchema],
        PromptOptions: ['The options of `pipeline.generate`.', promptOptionsSchema],
        Job: ['What one image of `pipeline.generateEach` shows.', jobSchema],
        DrawOptions: ['How the images of `pipeline.generateEach` are generated.', drawOptionsSchema],
        EmbedOptions: ['The options of `embed`.', embedOptionsSchema],
        EvaluateOptions: ['The options of `evaluate`.', evaluateOptionsSchema],
      },
      ["import type { RgbImage } from '../base/rgb-image.js';"],
    ),
  };
}

/** A module with an interface for each schema. */
function optionTypes(
  schemas: Readonly<Record<string, readonly [doc: string, schema: z.ZodObject]>>,
  imports: readonly string[] = [],
): string {
  const interfaces = Object.entries(schemas).map(([name, [doc, schema]]) => {
    const json = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema;
    return `/** ${doc} */\nexport interface ${name} ${objectType(json, '')}\n`;
  });
  const head = '/** @file Written by tools/option-types.ts from the schemas; not to be edited. */';
  return `${[head, ...imports].join('\n')}\n\n${interfaces.join('\n')}`;
}

function objectType({ properties = {}, required = [] }: JsonSchema, indent: string): string {
  const inner = `${indent}  `;
  const lines = Object.entries(properties).flatMap(([key, property]) => {
    const isOptional = !required.includes(key);
    const name = `${inner}${key}${isOptional ? '?' : ''}:`;
    // Where the members of a union stand on lines of their own, what is in them is further in.
    const types = typesOf(property, `${inner}    `);
    if (isOptional) types.push('undefined');
    const line = `${name} ${types.join(' | ')};`;
    const isShort = line.length <= LINE_WIDTH && !line.includes('\n');
    return [
      `${inner}/** ${docOf(property)} */`,
      isShort ? line : `${[name, ...types.map((type) => `${inner}  | ${type}`)].join('\n')};`,
    ];
  });
  return `{\n${lines.join('\n')}\n${indent}}`;
}

/** The members of a union. */
function typesOf(schema: JsonSchema, indent: string): string[] {
  if (schema.tsType !== undefined) return [schema.tsType];
  if (schema.anyOf) return schema.anyOf.flatMap((one) => typesOf(one, indent));
  if (schema.const !== undefined) return [literal(schema.const)];
  if (schema.enum) return schema.enum.map(literal);
  if (schema.prefixItems)
    return [`[${schema.prefixItems.map((one) => typesOf(one, indent).join(' | ')).join(', ')}]`];
  if (schema.items) {
    const types = typesOf(schema.items, indent);
    return [types.length > 1 ? `(${types.join(' | ')})[]` : `${types[0]}[]`];
  }
  if (schema.properties) return [objectType(schema, indent)];
  return [schema.type === 'integer' ? 'number' : String(schema.type)];
}

function literal(value: unknown): string {
  return typeof value === 'string' ? `'${value}'` : String(value);
}

/** A sentence, in which options have their names in the library, and the default. */
function docOf({ description = '', default: fallback }: JsonSchema): string {
  const text = description.replace(/(?<![\w-])--([a-z][a-z-]*)/g, (_, flag: string) => {
    const key = flag.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
    return `\`${key}\``;
  });
  const sentence = `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
  const isShown =
    fallback !== undefined && !(Array.isArray(fallback) && fallback.length === 0) && fallback !== '';
  return isShown && !/default: /.test(text) ? `${sentence} @default ${JSON.stringify(fallback)}` : sentence;
}

if (import.meta.filename === process.argv[1])
  for (const [file, content] of Object.entries(typeFiles()))
    writeFileSync(join(import.meta.dirname, '../src/options', file), content);
