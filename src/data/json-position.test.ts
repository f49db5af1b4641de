import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { jsonErrorPosition } from './json-position.js';

describe('jsonErrorPosition', () => {
  it.each([
    ['', 1, 1],
    ['[{"a": 1},]', 1, 11],
    ['[\n  {"a": 1}\n  {"a": 2}\n]', 3, 3],
    ['[{"a": "x}\n]', 1, 8],
    ["[{'a': 1}]", 1, 3],
    ['[{"a" 1}]', 1, 7],
    ['[1, 2', 1, 6],
    ['[1]\n[2]', 2, 1],
    ['{"a": 1,}', 1, 9],
    ['[NaN]', 1, 2],
    ['[1}', 1, 3],
    ['["\\x"]', 1, 2],
  ])('%j breaks at %i:%i', (text, line, column) => {
    expect(() => JSON.parse(text)).toThrow();
    expect(jsonErrorPosition(text)).toMatchObject({ line, column });
  });

  it('is never past the place that V8 names, for JSON with one wrong sign in it', () => {
    fc.assert(
      fc.property(fc.json(), fc.nat(), fc.constantFrom('}', ']', ',', ':', '@', '"'), (json, place, sign) => {
        const at = place % (json.length + 1);
        const text = json.slice(0, at) + sign + json.slice(at);
        let broken = false;
        try {
          JSON.parse(text);
        } catch {
          broken = true;
        }
        if (!broken) return;
        const { line, column } = jsonErrorPosition(text);
        expect(line).toBe(1);
        expect(column).toBeLessThanOrEqual(text.length + 1);
        const position = /at position (\d+)/.exec(messageOf(text))?.[1];
        // V8 points into a broken string or number, this module at its beginning.
        if (position !== undefined) expect(column - 1).toBeLessThanOrEqual(Number(position));
      }),
    );
  });

  it('shows the surroundings on one line', () => {
    expect(jsonErrorPosition('[\n  "before"\n  "after"\n]').excerpt).toBe('[ "before" "after" ]');
  });
});

function messageOf(text: string): string {
  try {
    JSON.parse(text);
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}
