/**
 * @file Writes the types of options as TypeScript, from their schemas: an editor shows the documentation of a type, but not
 * the descriptions of a schema. `npm run types` writes them.
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
  loadedAdapter,
  pipelineOptionsSchema,
  promptOptionsSchema,
} from '../src/options/generate-options.js';
import { referenceImagesSchema, referenceSettingsSchema } from '../src/options/reference-options.js';
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
  const references = {
    ReferenceImages: ['The reference images of one adapter.', referenceImagesSchema],
    ReferenceSettings: ['How the reference images of one adapter act.', referenceSettingsSchema],
    References: [
      'The reference images of one adapter, and how they act.',
      referenceImagesSchema.extend(referenceSettingsSchema.shape),
      'ReferenceImages',
      'ReferenceSettings',
    ],
  } satisfies Schemas;
  return {
    'reference-types.ts': optionTypes(references, [
      "import type { RgbImage } from '../base/rgb-image.js';",
      "import type { BlockScales } from './reference-options.js';",
    ]),
    'train-types.ts': optionTypes({
      TrainOptions: ['The options of `train` and `dryRun`.', trainOptionsSchema],
      CheckOptions: ['The options of `checkDataset`.', checkOptionsSchema],
    }),
    'generate-types.ts': optionTypes(
      {
        AdapterFiles: ['An adapter and its image encoder.', z.strictObject(loadedAdapter)],
        AdapterWithReferences: [
          'An adapter and its reference images.',
          z.strictObject({ ...loadedAdapter, ...references.References[1].shape }),
          ...['AdapterFiles', 'References'],
        ],
        PipelineOptions: ['The models of an `IPAdapterPipeline`.', pipelineOptionsSchema],
        Job: ['The content of one image of `pipeline.generateEach`.', jobSchema, 'ReferenceImages'],
        DrawOptions: [
          'How the images of `pipeline.generateEach` are generated.',
          drawOptionsSchema,
          'ReferenceSettings',
        ],
        PromptOptions: ['The options of `pipeline.generate`.', promptOptionsSchema, 'Job', 'DrawOptions'],
        GenerateOptions: [
          'The options of `generate`: models and prompts.',
          generateOptionsSchema,
          'PipelineOptions',
          'PromptOptions',
        ],
        EmbedOptions: ['The options of `embed`.', embedOptionsSchema],
        EvaluateOptions: [
          'The options of `evaluate`.',
          evaluateOptionsSchema,
          'PipelineOptions',
          'DrawOptions',
        ],
      },
      [
        "import type { RgbImage } from '../base/rgb-image.js';",
        "import type { LoraOptions } from './lora-options.js';",
        "import type { ReferenceImages, ReferenceSettings, References } from './reference-types.js';",
      ],
      references,
    ),
  };
}

/** The documentation of an interface, its schema, and the interfaces before it that it extends. */
type Source = readonly [doc: string, schema: z.ZodObject, ...bases: string[]];
type Schemas = Readonly<Record<string, Source>>;

/**
 * Returns a module with an interface for each schema.
 * @param imported schemas of another module, which interfaces may extend
 */
function optionTypes(schemas: Schemas, imports: readonly string[] = [], imported: Schemas = {}): string {
  const written = new Map(Object.entries(imported).map(([name, [, schema]]) => [name, typesIn(schema)]));
  const interfaces = Object.entries(schemas).map(([name, [doc, schema, ...bases]]) => {
    const properties = typesIn(schema);
    written.set(name, properties);
    const own = new Map(properties);
    const inherited = bases.map((base) => {
      const others: string[] = [];
      for (const [key, text] of written.get(base) as Map<string, string>)
        if (properties.get(key) === text) own.delete(key);
        else others.push(`'${key}'`);
      return others.length === 0 ? base : omit(base, others);
    });
    const body = own.size === 0 ? '' : `\n${[...own.values()].join('\n')}\n`;
    return `/** ${doc} */\n${headOf(name, inherited)}${body}}\n`;
  });
  const head = '/** @file Written by tools/option-types.ts from the schemas; not to be edited. */';
  return `${[head, ...imports].join('\n')}\n\n${interfaces.join('\n')}`;
}

function typesIn(schema: z.ZodObject): Map<string, string> {
  const json = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema;
  return propertiesOf(json, '  ');
}

/** Returns the base without these keys, formatted for a line of its own. */
function omit(base: string, keys: readonly string[]): string {
  const line = `Omit<${base}, ${keys.join(' | ')}>`;
  const indent = '    ';
  if (line.length + indent.length + 2 <= LINE_WIDTH) return line;
  return `Omit<\n${indent}  ${base},\n${keys.map((key) => `${indent}  | ${key}\n`).join('')}${indent}>`;
}

function headOf(name: string, bases: readonly string[]): string {
  if (bases.length === 0) return `export interface ${name} {`;
  const line = `export interface ${name} extends ${bases.join(', ')} {`;
  return line.length <= LINE_WIDTH ? line : `export interface ${name}\n  extends ${bases.join(',\n    ')} {`;
}

function objectType(json: JsonSchema, indent: string): string {
  return `{\n${[...propertiesOf(json, `${indent}  `).values()].join('\n')}\n${indent}}`;
}

/** Returns each property with its documentation, by name. */
function propertiesOf({ properties = {}, required = [] }: JsonSchema, indent: string): Map<string, string> {
  const entries = Object.entries(properties).map(([key, property]): [string, string] => {
    const isOptional = !required.includes(key);
    const name = `${indent}${key}${isOptional ? '?' : ''}:`;
    // If the members of a union are on lines of their own, their content is indented further.
    const types = typesOf(property, `${indent}    `);
    if (isOptional) types.push('undefined');
    const line = `${name} ${types.join(' | ')};`;
    const isShort = line.length <= LINE_WIDTH && !line.includes('\n');
    const declaration = isShort
      ? line
      : `${[name, ...types.map((type) => `${indent}  | ${type}`)].join('\n')};`;
    return [key, `${indent}/** ${docOf(property)} */\n${declaration}`];
  });
  return new Map(entries);
}

/** Returns the members of a union. */
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

/** Returns the description as a sentence with the library's names of options, and the default. */
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
