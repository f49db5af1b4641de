/**
 * @file Finds the place of a syntax error in JSON. V8's message contains a position only for some errors, and a dataset is
 * often one long file written by a script: its owner needs "line 1037, column 12".
 */

const SPACE = /[ \t\n\r]*/y;
/** A string (of characters from the space on, and escapes), a number or a literal. */
const SCALAR =
  /"(?:[ !#-[\]-\uffff]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;

export interface TextPosition {
  /** Counted from 1. */
  readonly line: number;
  readonly column: number;
  /** The text around the position, on one line. */
  readonly excerpt: string;
}

/** Returns the first position at which `text` is not JSON. Call it only for texts that `JSON.parse` refuses. */
export function jsonErrorPosition(text: string): TextPosition {
  const offset = errorOffset(text);
  const validText = text.slice(0, offset);
  const lineStart = validText.lastIndexOf('\n') + 1;
  return {
    line: validText.split('\n').length,
    column: offset - lineStart + 1,
    excerpt: text
      .slice(Math.max(0, offset - 30), offset + 30)
      .replace(/\s+/g, ' ')
      .trim(),
  };
}

/** Reads the text with a stack of open brackets; returns the offset of the first token that is not allowed there. */
function errorOffset(text: string): number {
  const open: string[] = [];
  let at = 0;
  /** The tokens that are allowed next. */
  let expect: 'value' | 'value or ]' | 'key' | 'key or }' | 'colon' | 'comma or end' = 'value';
  const match = (pattern: RegExp): number => {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0].length ?? 0;
  };
  for (;;) {
    at += match(SPACE);
    const sign = text[at];
    if (sign === undefined) return at;
    if (expect === 'comma or end') {
      const closing = open.at(-1) === '{' ? '}' : ']';
      if (open.length === 0 || (sign !== ',' && sign !== closing)) return at;
      if (sign === closing) open.pop();
      else expect = open.at(-1) === '{' ? 'key' : 'value';
      at++;
    } else if (expect === 'colon') {
      if (sign !== ':') return at;
      expect = 'value';
      at++;
    } else if ((expect === 'value or ]' && sign === ']') || (expect === 'key or }' && sign === '}')) {
      open.pop();
      expect = 'comma or end';
      at++;
    } else if (expect === 'key' || expect === 'key or }') {
      const length = sign === '"' ? match(SCALAR) : 0;
      if (length === 0) return at;
      expect = 'colon';
      at += length;
    } else if (sign === '{' || sign === '[') {
      open.push(sign);
      expect = sign === '{' ? 'key or }' : 'value or ]';
      at++;
    } else {
      const length = match(SCALAR);
      if (length === 0) return at;
      expect = 'comma or end';
      at += length;
    }
  }
}
