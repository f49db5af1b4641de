/** @file Links between the pages, and the paths of this repository's files that they name, lead somewhere. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '..');
const pages = [
  'README.md',
  'bench/RESULTS.md',
  'CHANGELOG.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

/** As GitHub makes the anchors of headings. */
function anchorsOf(page: string): string[] {
  return Array.from(readFileSync(page, 'utf8').matchAll(/^#+ (.*)$/gm), ([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

it.each(pages)('%s', (page) => {
  const text = readFileSync(join(root, page), 'utf8');
  const folder = dirname(join(root, page));
  const links = Array.from(text.matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)/g));
  const broken = links.filter(([, path = '', anchor]) => {
    const target = path === '' ? join(root, page) : join(folder, path);
    return !existsSync(target) || (anchor !== undefined && !anchorsOf(target).includes(anchor));
  });
  expect(broken.map(([link]) => link)).toEqual([]);
  const paths = Array.from(
    text.matchAll(/`((?:src|native|tools|test|bench|examples)\/[\w./-]*)`/g),
    ([, path = '']) => path,
  );
  expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([]);
});
