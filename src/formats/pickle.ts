/**
 * @file Parses Python's pickle format, protocols 2 to 5 (CPython Lib/pickletools.py), as data: nothing that a pickle names
 * is imported or executed. Globals that the caller does not define are errors, or are read as `Unread`.
 */

/** A global that a pickle may name, such as `collections.OrderedDict`. */
export interface PickleGlobal {
  name: string;
  /** Returns the result of calling the global; without it, a call is an error. */
  call?: (args: unknown[]) => unknown;
}

/** Stands for an unknown global, or for an object made with one. */
export class Unread {
  /** @param name such as 'numpy.core.multiarray.scalar' */
  constructor(readonly name: string) {}
}

export interface PickleReader {
  globals: ReadonlyMap<string, PickleGlobal>;
  /** Whether an unknown global is read as an `Unread`; otherwise it is an error. */
  skipsOthers: boolean;
  /** Returns the value of a persistent id; in torch files a storage beside the pickle. */
  load: (id: unknown) => unknown;
  /** Throws an error about the pickle. */
  fail: (what: string) => never;
}

/** Far more than any checkpoint needs (about 20 a tensor), and few enough that empty containers cannot fill the memory. */
const MAX_INSTRUCTIONS = 2_000_000;
/** Integers in checkpoints take 8 bytes; decoding takes quadratic time, which a hostile file could exploit. */
const MAX_INTEGER_BYTES = 64;
const HIGHEST_PROTOCOL = 5;

/**
 * Reads a pickle. Dictionaries become Maps, lists and tuples arrays, None null, and integers numbers, or bigints where a
 * number is not exact.
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

  /** Executes one instruction. The result is pushed onto the stack unless it is undefined. */
  #execute(code: number): unknown {
    // The comments are pickletools' names of the instructions.
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
        return this.#memoized(this.#u8());
      case 0x6a: // LONG_BINGET
        return this.#memoized(this.#u32());

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
        // The attributes of an OrderedDict, such as a state dict's `_metadata`, hold no weights and are dropped.
        this.#pop();
        if (!(this.#top() instanceof Map || this.#top() instanceof Unread))
          this.#fail('it sets attributes on something other than a dictionary');
        return undefined;
      case 0x51: // BINPERSID
        return this.#reader.load(this.#pop());
      default:
        return this.#fail(`its instruction 0x${code.toString(16)} is not used in checkpoints`);
    }
  }

  #global(module: unknown, name: unknown): PickleGlobal | Unread {
    if (typeof module !== 'string' || typeof name !== 'string')
      return this.#fail('it names a global by something other than text');
    const path = `${module}.${name}`;
    const refusal = `it names ${path.slice(0, 100)}; only tensors and plain containers are read, and no code is executed`;
    const global = this.#reader.globals.get(path);
    return global ?? (this.#reader.skipsOthers ? new Unread(path) : this.#fail(refusal));
  }

  #call(callee: unknown, args: unknown): unknown {
    if (callee instanceof Unread) return callee;
    const { name, call } = (callee ?? {}) as Partial<PickleGlobal>;
    if (!call || !Array.isArray(args))
      return this.#fail(`it calls ${name ?? 'a value'}, which is not a function`);
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
    if (this.#stack.length - count < (this.#marks.at(-1) ?? 0)) this.#fail('it pops from an empty stack');
    return this.#stack.splice(this.#stack.length - count);
  }

  #popMark(): unknown[] {
    return this.#stack.splice(this.#marks.pop() ?? this.#fail('it ends a list that it did not start'));
  }

  #top(): unknown {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) this.#fail('it reads from an empty stack');
    return this.#stack.at(-1);
  }

  #memoized(index: number): unknown {
    if (!this.#memo.has(index)) this.#fail(`it uses memo ${index} before it is set`);
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

  /** Reads a little-endian two's complement integer. */
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

  /** Reads text up to the end of the line. */
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
