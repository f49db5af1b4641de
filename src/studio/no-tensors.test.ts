import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, it } from 'vitest';

it('imports nothing that leads to LibTorch', () => {
  const src = join(import.meta.dirname, '..');
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    const imports = readFileSync(file, 'utf8').matchAll(
      /^(?:import|export) (?!type )[^;]*?from '(\.[^']+)\.js'/gm,
    );
    for (const [, path = ''] of imports) visit(join(dirname(file), `${path}.ts`));
  };
  visit(join(src, 'studio/server.ts'));
  const rooms = new Set([...seen].map((file) => dirname(relative(src, file))));
  expect(rooms).toContain('studio');
  expect(rooms).toContain('images');
  expect([...rooms].filter((room) => /^(torch|nn|models|generation)/.test(room))).toEqual([]);
});
