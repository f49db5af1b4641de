/** @file Mutations of JSON's content: what comes out is mostly still JSON, so that it gets past the parser. */
import { pick, type Random } from '../../demo/world/random.js';
import { below, edgeNumbers, mutateBytes } from './bytes.js';

const numbers = [...edgeNumbers.map(String), '-0', '0.5', '1e3', '1e-400', '1e400', '-1e400'];

const words = [
  ...['', '__proto__', 'constructor', 'toString', '__metadata__', '../../x', '/dev/zero', '.'],
  ...['F32', 'U8', 'F8_E4M3', 'C64', 'a'.repeat(5000), 'é😀', '\u0000', '\ud800'],
];
const strings = words.map((word) => JSON.stringify(word));

/** Far beyond what recursion over it survives. */
const deep = ['['.repeat(10_000) + ']'.repeat(10_000), `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`];

const others = ['null', 'true', 'false', '[]', '{}', '[[]]', '[null]', '{"a": 1}', '[1, 2]', ...deep];

/** A value: its text, or an array's or object's members. Objects can have a name twice. */
type Node = string | { brackets: '[]' | '{}'; members: Member[] };

interface Member {
  /** As JSON; empty in an array. */
  name: string;
  value: Node;
}

function nodeOf(value: unknown): Node {
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (Array.isArray(value))
    return { brackets: '[]', members: value.map((item) => ({ name: '', value: nodeOf(item) })) };
  const members = Object.entries(value).map(([key, item]) => ({
    name: JSON.stringify(key),
    value: nodeOf(item),
  }));
  return { brackets: '{}', members };
}

function textOf(node: Node): string {
  if (typeof node === 'string') return node;
  const members = node.members.map(({ name, value }) => (name === '' ? '' : `${name}:`) + textOf(value));
  return node.brackets[0] + members.join(',') + node.brackets[1];
}

/** Each list of members, once for each member in it, so that every member is as likely. */
function listsIn(node: Node): Member[][] {
  if (typeof node === 'string') return [];
  return [...node.members.map(() => node.members), ...node.members.flatMap(({ value }) => listsIn(value))];
}

function anyValue(random: Random): string {
  return pick(pick([numbers, strings, others], random), random);
}

/** Another value of the same kind. */
function likeness(value: Node, random: Random): Node {
  if (typeof value !== 'string') return pick(others, random);
  if (/^[-\d]/.test(value)) return pick(numbers, random);
  return pick(value.startsWith('"') ? strings : others, random);
}

/** Changes the list of members at one place; `lists` are all of the text. */
type Mutation = (list: Member[], at: number, lists: Member[][], random: Random) => void;

const setValue = (list: Member[], at: number, value: Node) => {
  list[at] = { name: (list[at] as Member).name, value };
};

const mutations: readonly Mutation[] = [
  (list, at, _, random) => setValue(list, at, likeness((list[at] as Member).value, random)),
  (list, at, _, random) => setValue(list, at, likeness((list[at] as Member).value, random)),
  (list, at, _, random) => setValue(list, at, anyValue(random)),
  (list, at, lists, random) => setValue(list, at, structuredClone(pick(pick(lists, random), random).value)),
  (list, at) => void list.splice(at, 1),
  (list, at) => void list.splice(at, 0, list[at] as Member),
  (list, at, _, random) => {
    const { name } = list[at] as Member;
    // Under a name that is there already, or a new one.
    const own = name === '' ? '' : pick([name, pick(list, random).name, pick(strings, random)], random);
    list.splice(below(list.length + 1, random), 0, { name: own, value: anyValue(random) });
  },
  (list, at, _, random) => {
    const { name, value } = list[at] as Member;
    list[at] = {
      name: name === '' ? '' : pick([pick(list, random).name, pick(strings, random)], random),
      value,
    };
  },
];

/** One to three mutations of one of the texts. */
export function mutateJson(texts: readonly string[], random: Random): Buffer {
  const kind = random();
  if (kind < 0.1)
    return mutateBytes(
      texts.map((text) => Buffer.from(text)),
      random,
    );
  if (kind < 0.12) return Buffer.from(anyValue(random));
  const root = nodeOf(JSON.parse(pick(texts, random)));
  for (let i = 1 + below(3, random); i > 0; i--) {
    const lists = listsIn(root).filter((list) => list.length > 0);
    if (lists.length === 0) break;
    const list = pick(lists, random);
    pick(mutations, random)(list, below(list.length, random), lists, random);
  }
  return Buffer.from(textOf(root));
}
