/** @file The page of a demo run: what was learnt, how it was measured, the facts of the run, and what to do next. */
import type { Evaluation } from '../src/index.js';

/** A table of images with titles. */
export interface ImageTable {
  titles: readonly string[];
  /** PNG files. */
  rows: readonly (readonly Buffer[])[];
}

export interface PageContent {
  /** The image prompts, and what was generated as training went on. */
  learning: ImageTable;
  /** The image prompts at several scales. */
  scales: ImageTable;
  /** Image prompts with a text each. */
  texts: ImageTable & { captions: readonly string[] };
  evaluation: Evaluation;
  /** The report of the training, relative to the page. */
  report: string;
  facts: readonly (readonly [name: string, value: string])[];
  next: readonly (readonly [what: string, command: string])[];
  /** The adapter's file, relative to the page. */
  adapter: string;
  /** The adapter's .bin file, relative to the page. */
  exported: string;
  /** The family of the model, such as 'Stable Diffusion'. */
  family: string;
}

export const pageStyle = `
  :root { color-scheme: light }
  body { font: 16px/1.55 system-ui, sans-serif; max-width: 56rem; margin: 0 auto; padding: 1rem; color: #222; background: #fff }
  h1 { margin: 0.5rem 0 } h2 { margin-top: 2.5rem } p, li { max-width: 44rem }
  table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
  th { color: #555; font-weight: normal; text-align: left; vertical-align: bottom; padding: 2px 6px 4px 0 }
  td { padding: 2px 6px 2px 0; vertical-align: top }
  .images { table-layout: fixed } .images th { font-size: 0.85rem; overflow-wrap: anywhere }
  .images img { display: block; width: 100%; max-width: 128px; height: auto; image-rendering: pixelated }
  .images .caption { font-size: 0.9rem; color: #555; padding: 0 0 12px }
  .wide { overflow-x: auto } .wide td { font-variant-numeric: tabular-nums; padding-right: 16px }
  pre { background: #f3f5f8; padding: 0.7rem 0.9rem; overflow-x: auto; font-size: 0.85rem; white-space: pre-wrap; overflow-wrap: anywhere }
`;

/** Returns the page as HTML without scripts or links to other hosts. */
export function page(content: PageContent): string {
  const { learning, scales, texts, report, facts, next, adapter, exported, family } = content;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ip-adapter: a demo run</title>
<style>${pageStyle}</style>
<h1>An adapter learns to see</h1>
<p>An <b>IP-Adapter</b> lets a diffusion model take an <b>image as its prompt</b>. The diffusion model stays as it is: the adapter
adds a second attention to each layer, which reads the image while the first one reads the text. This run trained such an
adapter from scratch, for a small ${family} that draws simple scenes.</p>
<h2>As it learns</h2>
<p>Each row has one image as its only prompt, without text. The scene is not in the training set. The other columns are
generated from the same noise: first without the adapter, then as training goes on. A good adapter brings back the
background, then the shapes, then their places.</p>
${imageTable(learning)}
<h2>How strongly the image counts</h2>
<p><code>--scale</code> sets the strength of the image prompt: 0 is none, 1 is what it was trained with.</p>
${imageTable(scales)}
<h2>Together with text</h2>
<p>The text asks for a background that the image does not have. With a lower scale the text has more to say.</p>
${imageTable(texts, texts.captions)}
${measured(content.evaluation)}
<h2>The training</h2>
<p>Whether the adapter uses its image, by what it predicts and by what it generates, the loss, and all settings:
<a href="${escaped(report)}">the report of the run</a>.</p>
<h2>This run</h2>
<div class="wide"><table>${facts.map(([name, value]) => `<tr><th>${escaped(name)}</th><td>${escaped(value)}</td></tr>`).join('\n')}</table></div>
<p>The adapter: <a href="${escaped(adapter)}">${escaped(adapter)}</a> (safetensors), and for the original code
<a href="${escaped(exported)}">${escaped(exported)}</a>.</p>
<h2>Next</h2>
${next.map(([what, command]) => `<p>${escaped(what)}</p>\n<pre>${escaped(command)}</pre>`).join('\n')}
</html>
`;
}

export function imageTable({ titles, rows }: ImageTable, captions: readonly string[] = []): string {
  const head = titles.map((title) => `<th>${escaped(title)}</th>`).join('');
  const body = rows.map((row, i) => {
    const cells = row.map((png, column) => {
      const source = `data:image/png;base64,${png.toString('base64')}`;
      return `<td><img src="${source}" alt="${escaped(titles[column] ?? '')}, row ${i + 1}"></td>`;
    });
    const caption = captions[i];
    const words =
      caption === undefined
        ? ''
        : `<tr><td class="caption" colspan="${titles.length}">“${escaped(caption)}”</td></tr>`;
    return `<tr>${cells.join('')}</tr>${words}`;
  });
  return `<table class="images"><tr>${head}</tr>\n${body.join('\n')}</table>`;
}

function measured({ scores, rows: count }: Evaluation): string {
  const number = (value: number | null): string => `<td>${value === null ? '–' : value.toFixed(3)}</td>`;
  const rows = scores.map(
    ({ scale, clipI, clipIOthers, clipT, retrievalTop1 }) =>
      `<tr><th>${scale === 0 ? 'no adapter' : `scale ${scale}`}</th>${number(clipI)}${number(clipIOthers)}<td>${(100 * retrievalTop1).toFixed(1)} %</td>${number(clipT)}</tr>`,
  );
  const chance = (100 / count).toFixed(1);
  return `<h2>Measured</h2>
<p>On ${count} scenes that are not in the training set, without text, with CLIP, which compares images and texts.</p>
<div class="wide"><table><tr><th></th><th>CLIP-I</th><th>CLIP-I to others</th><th>retrieval top-1</th><th>CLIP-T</th></tr>
${rows.join('\n')}</table></div>
<ul>
<li><b>CLIP-I</b>: similarity of an image to its own image prompt, from −1 to 1; 1 is the prompt itself. <b>To others</b> is the
similarity to the other prompts. Good: the first is close to 1 and clearly above the second. When both are high and close
together, the adapter makes the same kind of image for every prompt.</li>
<li><b>Retrieval top-1</b>: the share of images whose own prompt is the closest of all ${count}. Chance is ${chance} %, the best is
100 %. This is the clearest sign that the adapter follows its prompt.</li>
<li><b>CLIP-T</b>: similarity to the caption of the prompt's scene, which was not given. It is lower than CLIP-I by nature; compare
it only with the row without the adapter, which shows what no prompt gets.</li>
</ul>`;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
