/**
 * @file Python's pickle format, protocols 2 to 5 (CPython Lib/pickletools.py), as data: nothing a pickle names
 * is looked up or run. It may name only the globals it is given here; any other is an error, or stands unread.
 */

/** Something a pickle may name, such as `collections.OrderedDict`. */
export interface PickleGlobal {
  name: string;
  /** What calling it gives; without it, a call is an error. */
  call?: (args: unknown[]) => unknown;
}

/** Stands for what is not read: a global that is none of the given ones, or whatever was to be made with it. */
export class Unread {
  /** @param name such as 'numpy.core.multiarray.scalar' */
  constructor(readonly name: string) {}
}

export interface PickleReader {
  globals: ReadonlyMap<string, PickleGlobal>;
  /** Whether any other global comes as an `Unread` instead of an error. */
  skipsOthers: boolean;
  /** The value of a persistent id: for torch, a storage beside the pickle. */
  load: (id: unknown) => unknown;
  /** Throws the error for a fault in the pickle. */
  fail: (what: string) => never;
}

/** Far above any checkpoint, at some 20 a tensor; below what would fill memory with empty dictionaries. */
const MAX_INSTRUCTIONS = 2_000_000;
/** Python writes the integers of checkpoints in 8 bytes; hostile ones take quadratic time to decode. */
const MAX_INTEGER_BYTES = 64;
const HIGHEST_PROTOCOL = 5;

/**
 * Reads a pickle. Dictionaries come as Maps, lists and tuples as arrays, None as null, integers as numbers
 * where those hold them exactly, else as bigints.
 * @param bytes the whole pickle
 */
export function unpickle(bytes: Buffer, reader: PickleReader): unknown {
  return new Unpickler(bytes, reader).run();
}

class Unpickler {
  readonly #bytes: Buffer;
  readonly #reader: PickleReader;
  readonly #stack: unknown[] = [];
  /** Stack heights at each open MARK. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, unknown>();
  readonly #utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #position = 0;

  constructor(bytes: Buffer, reader: PickleReader) {
    this.#bytes = bytes;
    this.#reader = reader;
  }

  run(): unknown {
    for (let i = 0; i < MAX_INSTRUCTIONS; i++) {
      const code = this.#u8();
      if (code === 0x2e) return this.#pop(); // STOP
      const value = this.#execute(code);
      if (value !== undefined) this.#stack.push(value);
    }
    return this.#fail(`it has more than ${MAX_INSTRUCTIONS} instructions`);
  }

  /** Carries out one instruction; what it returns goes onto the stack, unless that is undefined. */
  #execute(code: number): unknown {
    // The names beside the codes are those of pickletools.
    switch (code) {
      case 0x80: // PROTO
        if (this.#u8() > HIGHEST_PROTOCOL) this.#fail(`it has a protocol above ${HIGHEST_PROTOCOL}`);
        return undefined;
      case 0x95: // FRAME
        return void this.#take(8);
      case 0x28: // MARK
        return void this.#marks.push(this.#stack.length);
      case 0x30: // POP
        return void this.#pop();
      case 0x31: // POP_MARK
        return void this.#popMark();
      case 0x32: // DUP
        return this.#top();

      case 0x4e: // NONE
        return null;
      case 0x88: // NEWTRUE
        return true;
      case 0x89: // NEWFALSE
        return false;
      case 0x4a: // BININT
        return this.#take(4).readInt32LE();
      case 0x4b: // BININT1
        return this.#u8();
      case 0x4d: // BININT2
        return this.#take(2).readUInt16LE();
      case 0x8a: // LONG1
        return this.#integer(this.#u8());
      case 0x8b: // LONG4
        return this.#integer(this.#u32());
      case 0x47: // BINFLOAT
        return this.#take(8).readDoubleBE();
      case 0x58: // BINUNICODE
        return this.#text(this.#u32());
      case 0x8c: // SHORT_BINUNICODE
        return this.#text(this.#u8());
      case 0x8d: // BINUNICODE8
        return this.#text(this.#u64());
      case 0x42: // BINBYTES
        return Uint8Array.from(this.#take(this.#u32()));
      case 0x43: // SHORT_BINBYTES
        return Uint8Array.from(this.#take(this.#u8()));

      case 0x7d: // EMPTY_DICT
        return new Map();
      case 0x64: // DICT
        return this.#setItems(new Map(), this.#popMark());
      case 0x73: // SETITEM
        return void this.#setOn(this.#popSome(2));
      case 0x75: // SETITEMS
        return void this.#setOn(this.#popMark());
      case 0x5d: // EMPTY_LIST
      case 0x29: // EMPTY_TUPLE
        return [];
      case 0x6c: // LIST
      case 0x74: // TUPLE
        return this.#popMark();
      case 0x61: // APPEND
        return void this.#appendTo(this.#popSome(1));
      case 0x65: // APPENDS
        return void this.#appendTo(this.#popMark());
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        return this.#popSome(code - 0x84);

      case 0x71: // BINPUT
        return void this.#memo.set(this.#u8(), this.#top());
      case 0x72: // LONG_BINPUT
        return void this.#memo.set(this.#u32(), this.#top());
      case 0x94: // MEMOIZE
        return void this.#memo.set(this.#memo.size, this.#top());
      case 0x68: // BINGET
        return this.#remembered(this.#u8());
      case 0x6a: // LONG_BINGET
        return this.#remembered(this.#u32());

      case 0x63: // GLOBAL
        return this.#global(this.#line(), this.#line());
      case 0x93: {
        // STACK_GLOBAL
        const [module, name] = this.#popSome(2);
        return this.#global(module, name);
      }
      case 0x52: // REDUCE
      case 0x81: // NEWOBJ
        return this.#call(...(this.#popSome(2) as [unknown, unknown]));
      case 0x62: // BUILD
        // Attributes of an OrderedDict: a state dict's `_metadata`, which holds no weights.
        this.#pop();
        if (!(this.#top() instanceof Map || this.#top() instanceof Unread))
          this.#fail('it sets attributes on something other than a dictionary');
        return undefined;
      case 0x51: // BINPERSID
        return this.#reader.load(this.#pop());
      default:
        return this.#fail(`its instruction 0x${code.toString(16)} is not one that checkpoints have`);
    }
  }

  #global(module: unknown, name: unknown): PickleGlobal | Unread {
    if (typeof module !== 'string' || typeof name !== 'string')
      return this.#fail('it names something without text');
    const path = `${module}.${name}`;
    const refused = `it names ${path.slice(0, 100)}; only tensors and plain containers are read, and nothing is run`;
    const known = this.#reader.globals.get(path);
    return known ?? (this.#reader.skipsOthers ? new Unread(path) : this.#fail(refused));
  }

  #call(callee: unknown, args: unknown): unknown {
    if (callee instanceof Unread) return callee;
    const { name, call } = (callee ?? {}) as Partial<PickleGlobal>;
    if (!call || !Array.isArray(args))
      return this.#fail(`it calls ${name ?? 'something'} that is no function`);
    return call(args);
  }

  #setOn(items: unknown[]): void {
    const target = this.#top();
    if (target instanceof Unread) return;
    if (!(target instanceof Map)) this.#fail('it sets an item of something other than a dictionary');
    this.#setItems(target as Map<unknown, unknown>, items);
  }

  #setItems(target: Map<unknown, unknown>, items: unknown[]): Map<unknown, unknown> {
    if (items.length % 2 === 1) this.#fail('it has a key without a value');
    for (let i = 0; i < items.length; i += 2) target.set(items[i], items[i + 1]);
    return target;
  }

  #appendTo(items: unknown[]): void {
    const target = this.#top();
    if (target instanceof Unread) return;
    if (!Array.isArray(target)) this.#fail('it appends to something other than a list');
    for (const item of items) (target as unknown[]).push(item);
  }

  #pop(): unknown {
    return this.#popSome(1)[0];
  }

  /** The topmost `count` values, which must lie above the last MARK. */
  #popSome(count: number): unknown[] {
    if (this.#stack.length - count < (this.#marks.at(-1) ?? 0)) this.#fail('it takes from an empty stack');
    return this.#stack.splice(this.#stack.length - count);
  }

  #popMark(): unknown[] {
    return this.#stack.splice(this.#marks.pop() ?? this.#fail('it ends a list that it did not begin'));
  }

  #top(): unknown {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) this.#fail('it uses the top of an empty stack');
    return this.#stack.at(-1);
  }

  #remembered(index: number): unknown {
    if (!this.#memo.has(index)) this.#fail(`it uses value ${index} before it is there`);
    return this.#memo.get(index);
  }

  #take(count: number): Buffer {
    const end = this.#position + count;
    if (end > this.#bytes.length) this.#fail('it ends in the middle of an instruction');
    const taken = this.#bytes.subarray(this.#position, end);
    this.#position = end;
    return taken;
  }

  #u8(): number {
    return this.#take(1).readUInt8();
  }

  #u32(): number {
    return this.#take(4).readUInt32LE();
  }

  #u64(): number {
    return Number(this.#take(8).readBigUInt64LE());
  }

  /** A little-endian two's complement integer. */
  #integer(length: number): number | bigint {
    if (length > MAX_INTEGER_BYTES) this.#fail(`it holds an integer of ${length} bytes`);
    const hex = Buffer.from(this.#take(length)).reverse().toString('hex');
    const value = BigInt.asIntN(8 * length, BigInt(`0x${hex || '0'}`));
    const plain = Number(value);
    return Number.isSafeInteger(plain) ? plain : value;
  }

  #text(length: number): string {
    const bytes = this.#take(length);
    try {
      return this.#utf8.decode(bytes);
    } catch {
      return this.#fail('it holds text that is not UTF-8');
    }
  }

  /** Text up to the end of a line. */
  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#position);
    if (end < 0) this.#fail('it ends in the middle of a name');
    const text = this.#text(end - this.#position);
    this.#position = end + 1;
    return text;
  }

  #fail(what: string): never {
    return this.#reader.fail(`${what} (at byte ${this.#position} of its pickle)`);
  }
}
