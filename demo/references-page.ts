/** @file The page of examples of references: images, what was measured on them, and what was expected before the run. */
import { type ImageTable, imageTable, pageStyle } from './page.js';

/** A measured value and its limit, which was fixed before the run. */
export interface Check {
  what: string;
  value: number;
  /** The least that the value must be. */
  atLeast: number;
}

export interface Example {
  title: string;
  /** What is shown and how it was made, as a paragraph of HTML. */
  text: string;
  images: ImageTable;
  checks: readonly Check[];
}

export function isMet({ value, atLeast }: Check): boolean {
  return value >= atLeast;
}

/** Returns the page as HTML without scripts or links to other hosts. */
export function referencesPage(examples: readonly Example[], facts: string): string {
  const sections = examples.map(({ title, text, images, checks }) => {
    const rows = checks.map(
      (check) =>
        `<tr><th>${check.what}</th><td>${check.value.toFixed(3)}</td><td>${check.atLeast}</td><td>${isMet(check) ? 'met' : 'missed'}</td></tr>`,
    );
    return `<h2>${title}</h2>
<p>${text}</p>
${imageTable(images)}
<div class="wide"><table><tr><th>measured</th><th>value</th><th>at least</th><th></th></tr>
${rows.join('\n')}</table></div>`;
  });
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ip-adapter: what references can do</title>
<style>${pageStyle}</style>
<h1>What references can do</h1>
<p>${facts}</p>
${sections.join('\n')}
</html>
`;
}
