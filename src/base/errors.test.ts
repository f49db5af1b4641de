import { describe, expect, it } from 'vitest';
import { ConfigError, shown } from './errors.js';

describe('messages', () => {
  it('show values as JSON, cut to a line', () => {
    expect(shown({ a: [1, null, 'x'] })).toBe('{"a":[1,null,"x"]}');
    expect(shown(undefined)).toBe('nothing');
    expect(shown('a'.repeat(500))).toBe(`"${'a'.repeat(119)}…`);
  });

  it('show values nested deeper than the stack', () => {
    expect(shown(JSON.parse('['.repeat(100_000) + ']'.repeat(100_000)))).toMatch(/too deeply/);
  });

  it('are cut in the middle where they are too long, and keep cause and remedy', () => {
    const { message } = new ConfigError(`Expected this ${'x'.repeat(1e6)} get the file again`);
    expect(message.length).toBeLessThan(3010);
    expect(message).toMatch(/^Expected this x+ … x+ get the file again$/);
    expect(new ConfigError('short').message).toBe('short');
  });
});
