/**
 * @file Makes typed functions from operator schemas, such as `op('aten::relu(Tensor self) -> Tensor')`. The type checker
 * reads the argument types from the schema, and the first call compares the schema with the one of the loaded library.
 */
import { TorchError } from '../base/errors.js';
import type { DType } from './dtype.js';
import { native } from './native.js';
import { Held } from './scope.js';

// ---- types of a schema -------------------------------------------------------------------------------------------

/** A source of random numbers, as the addon takes it. */
interface GeneratorLike {
  readonly generatorHandle: number;
}

// `X` is the class Tensor. It is a parameter because Tensor itself uses operators.
type Value<T extends string, X> = T extends `${infer Base}?`
  ? Value<Base, X> | null
  : T extends `Tensor${string}[]`
    ? readonly X[]
    : T extends `Tensor${string}`
      ? X
      : T extends `${'int' | 'SymInt'}[${infer N}]`
        ? readonly number[] | (N extends '' ? never : number)
        : T extends `${infer Base}[${string}]`
          ? readonly Value<Base, X>[]
          : T extends 'int' | 'SymInt' | 'float' | 'Scalar'
            ? number
            : T extends 'bool'
              ? boolean
              : T extends 'ScalarType'
                ? DType
                : T extends 'str' | 'Device' | 'Layout' | 'MemoryFormat'
                  ? string
                  : T extends 'Generator'
                    ? GeneratorLike
                    : never;

type Parameter<S extends string, X> = S extends '*'
  ? []
  : S extends `${infer T} ${string}=${string}`
    ? [Value<T, X>?]
    : S extends `${infer T} ${string}`
      ? [Value<T, X>]
      : [];

type Parameters<S extends string, X> = S extends `${infer First}, ${infer Rest}`
  ? [...Parameter<First, X>, ...Parameters<Rest, X>]
  : Parameter<S, X>;

type Results<S extends string, X> = S extends `${infer First}, ${infer Rest}`
  ? [Value<First, X>, ...Results<Rest, X>]
  : [Value<S, X>];

type Result<S extends string, X> = S extends '()'
  ? void
  : S extends `(${infer Many})`
    ? Results<Many, X>
    : Value<S, X>;

/** The function that a schema describes. All arguments are positional, in the order of the schema, even keyword-only ones. */
export type Operator<S extends string, X> = S extends `${string}(${infer Args}) -> ${infer Returns}`
  ? ((...args: Parameters<Args, X>) => Result<Returns, X>) & {
      /** Whether this version of LibTorch has the operator; without it a call throws. */
      readonly available: boolean;
    }
  : never;

// ---- the schema at run time --------------------------------------------------------------------------------------

interface Schema {
  name: string;
  overload: string;
  args: { type: string; name: string; hasDefault: boolean }[];
  returns: string[];
}

/** Splits text at commas outside of brackets. */
function splitList(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '[' || text[i] === '(') depth++;
    else if (text[i] === ']' || text[i] === ')') depth--;
    else if (text[i] === ',' && depth === 0) {
      parts.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  parts.push(text.slice(start).trim());
  return parts.filter((part) => part !== '' && part !== '*');
}

// Removes alias annotations, and replaces the types that the library prints as plain ints.
function plainType(type: string): string {
  return type.replace(/\([a-z0-9!|\->* ]*\)/g, '').replace(/SymInt|ScalarType|Layout|MemoryFormat/g, 'int');
}

function parseSchema(text: string): Schema {
  const match = /^([\w:]+?)(?:\.(\w+))?\((.*)\) -> (.*)$/s.exec(text);
  if (match === null) throw new Error(`not an operator schema: ${text}`);
  const [, name = '', overload = '', args = '', returns = ''] = match;
  return {
    name,
    overload,
    args: splitList(args).map((part) => {
      const [declaration = '', fallback] = part.split('=', 2);
      const space = declaration.lastIndexOf(' ');
      return {
        type: plainType(declaration.slice(0, space)),
        name: declaration.slice(space + 1),
        hasDefault: fallback !== undefined,
      };
    }),
    returns: splitList(/^\(.*\)$/s.test(returns) ? returns.slice(1, -1) : returns).map((part) =>
      plainType(part.split(' ')[0] ?? ''),
    ),
  };
}

/** @throws TorchError where the arguments or results of the library's operator differ from the declared ones */
function compare(declared: Schema, live: Schema, liveText: string): void {
  const fits =
    declared.args.every((arg, i) => live.args[i]?.name === arg.name && live.args[i]?.type === arg.type) &&
    live.args.slice(declared.args.length).every((arg) => arg.hasDefault) &&
    declared.returns.join() === live.returns.join();
  if (!fits)
    throw new TorchError(
      `LibTorch ${native().torchVersion} has another ${declared.name}.${declared.overload} than expected: ${liveText}`,
    );
}

// ---- calls -------------------------------------------------------------------------------------------------------

function lower(value: unknown): unknown {
  if (value instanceof Held) return value.handle;
  if (Array.isArray(value)) return value.map(lower);
  if (value !== null && typeof value === 'object' && 'generatorHandle' in value) return value.generatorHandle;
  return value;
}

function describe(value: unknown): string {
  if (value instanceof Held) return value.isDisposed ? 'disposed Tensor' : String(value);
  if (Array.isArray(value)) {
    const shown = value.slice(0, 8).map(describe).join(', ');
    return value.length > 8 ? `[${shown}, … ${value.length} in all]` : `[${shown}]`;
  }
  return typeof value === 'object' && value !== null ? value.constructor.name : String(value);
}

/** Returns the function of an operator. `wrap` turns a handle into a Tensor. */
export function makeOperator<const S extends string, X extends Held>(
  schema: S,
  wrap: (handle: number) => X,
): Operator<S, X> {
  const declared = parseSchema(schema);
  const fullName = declared.overload === '' ? declared.name : `${declared.name}.${declared.overload}`;
  // Looked up at the first use, since declaring an operator must not load LibTorch.
  let known: { index: number | null } | undefined;
  const lookUp = (): number | null => {
    if (known === undefined) {
      const operator = native().findOperator(declared.name, declared.overload);
      if (operator !== null) compare(declared, parseSchema(operator[1]), operator[1]);
      known = { index: operator?.[0] ?? null };
    }
    return known.index;
  };

  const lift = (value: unknown, type: string): unknown => {
    if (value === null) return null;
    if (type === 'Tensor') return wrap(value as number);
    if (type === 'Tensor[]') return (value as number[]).map(wrap);
    return value;
  };
  const [onlyReturn = ''] = declared.returns;

  const call = (...args: unknown[]): unknown => {
    const index = lookUp();
    if (index === null) throw new TorchError(`LibTorch ${native().torchVersion} has no operator ${fullName}`);
    let raw: unknown;
    try {
      raw = native().call(index, ...args.map(lower));
    } catch (cause) {
      throw new TorchError(`${fullName}(${args.map(describe).join(', ')}): ${(cause as Error).message}`, {
        cause,
      });
    }
    if (declared.returns.length === 1) return lift(raw, onlyReturn);
    if (declared.returns.length === 0) return undefined;
    return (raw as unknown[]).map((value, i) => lift(value, declared.returns[i] ?? ''));
  };
  return Object.defineProperty(call, 'available', { get: () => lookUp() !== null }) as unknown as Operator<
    S,
    X
  >;
}
