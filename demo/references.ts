/**
 * @file Examples of what references can do, on scenes of the demo's world that no training has seen, each with limits that
 * were fixed before the run. Needs the adapter of `npm start`.
 *
 *     npm run references                                   demo-out/adapter; the page is demo-out/references/index.html
 *     npm run references -- --adapter A --other B          two adapters: checkpoints or files
 *
 * The exit code is 1 where a limit is missed.
 */
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { ClipMetric } from '../src/evaluation/clip-metric.js';
import { type DrawOptions, encodePng, IPAdapterPipeline, type RgbImage } from '../src/index.js';
import { tidy } from '../src/torch/index.js';
import { colourOverlap, shapesIoU } from './reference-measures.js';
import { type Check, type Example, isMet, referencesPage } from './references-page.js';
import { fullCaption } from './world/caption.js';
import { renderScene, SIDE } from './world/render.js';
import { sampleScenes } from './world/scene.js';

const { values } = parseArgs({ options: { adapter: { type: 'string' }, other: { type: 'string' } } });
process.chdir(join(import.meta.dirname, '..'));
const trained = 'demo-out/adapter';
const adapter = values.adapter ?? trained;
const other = values.other ?? earlierCheckpoint();
const out = 'demo-out/references';
const [COUNT, SHOWN] = [32, 6];
const DRAW = { steps: 20, guidanceScale: 3, batchSize: COUNT } as const;
const imageEncoder = 'demo/models/image_encoder';

/** Returns the checkpoint in the middle of the training: another adapter of the same kind. */
function earlierCheckpoint(): string {
  const steps = existsSync(trained)
    ? readdirSync(trained).flatMap((name) => /^checkpoint-(\d+)$/.exec(name)?.[1] ?? [])
    : [];
  if (steps.length < 2) {
    console.error('Expected the adapter of npm start in demo-out/adapter; run npm start first.');
    process.exit(2);
  }
  const sorted = steps.map(Number).sort((a, b) => a - b);
  return join(trained, `checkpoint-${sorted[sorted.length - 2]}`);
}

const scenes = sampleScenes(2 * COUNT, 'held-out', 2027);
const images = scenes.map((scene): RgbImage => ({ data: renderScene(scene), width: SIDE, height: SIDE }));
const [first, second] = [images.slice(0, COUNT), images.slice(COUNT)];
const captions = scenes.slice(0, COUNT).map(fullCaption);

using pipeline = await IPAdapterPipeline.load({ model: 'demo/models', adapter, imageEncoder });
using metric = ClipMetric.load(imageEncoder, undefined, { device: 'cpu', dtype: 'float32' });

/** Returns the mean CLIP-I of images and references, in pairs. */
function clipI(drawn: readonly RgbImage[], references: readonly RgbImage[]): number {
  return tidy(() => {
    const [a, b] = [metric.embedImages(drawn), metric.embedImages(references)];
    return a.mul(b).sum().item() / drawn.length;
  });
}

function mean(of: (i: number) => number): number {
  return Array.from({ length: COUNT }, (_, i) => of(i)).reduce((sum, value) => sum + value, 0) / COUNT;
}

async function draw(
  prompt: (i: number) => { prompt?: string; images?: RgbImage[] },
  settings: DrawOptions = {},
): Promise<RgbImage[]> {
  const jobs = Array.from({ length: COUNT }, (_, i) => ({ seed: i, ...prompt(i) }));
  return await pipeline.generateEach(jobs, { ...DRAW, ...settings });
}

async function table(columns: Readonly<Record<string, readonly RgbImage[]>>): Promise<Example['images']> {
  const rows = Array.from({ length: SHOWN }, (_, i) =>
    Promise.all(Object.values(columns).map((column) => encodePng(column[i] as RgbImage))),
  );
  return { titles: Object.keys(columns), rows: await Promise.all(rows) };
}

const one = (i: number): RgbImage[] => [first[i] as RgbImage];
const both = (i: number): RgbImage[] => [first[i] as RgbImage, second[i] as RgbImage];
const plain = await draw((i) => ({ images: one(i) }));
const examples: Example[] = [
  await masks(),
  await style(),
  await negativeImage(),
  await twoAdapters(),
  await influence(),
];

mkdirSync(out, { recursive: true });
const facts = `Each row is a held-out scene of the demo's small world; ${COUNT} were drawn and measured, the first ${SHOWN} are shown. CLIP-I is
the cosine between the embeddings of an image and a reference. Limits were fixed before the run. Adapter: ${adapter}; the second one: ${other}.`;
await writeFile(join(out, 'index.html'), referencesPage(examples, facts));
for (const { title, checks } of examples) {
  console.log(title);
  for (const check of checks)
    console.log(
      `  ${isMet(check) ? 'ok  ' : 'MISS'}  ${check.what}: ${check.value.toFixed(3)}, at least ${check.atLeast}`,
    );
  if (!checks.every(isMet)) process.exitCode = 1;
}
console.log(`${out}/index.html`);

/** Two references, one in each half of a wide image. */
async function masks(): Promise<Example> {
  const [width, height] = [2 * SIDE, SIDE];
  const mask = (isWhite: (x: number) => boolean): RgbImage => ({
    data: Uint8Array.from({ length: width * height * 3 }, (_, i) =>
      isWhite(Math.floor(i / 3) % width) ? 255 : 0,
    ),
    width,
    height,
  });
  const wide = await draw((i) => ({ images: both(i) }), {
    ...{ width, height },
    masks: [mask((x) => x < SIDE), mask((x) => x >= SIDE)],
  });
  const half = (image: RgbImage, left: number): RgbImage => ({
    data: Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => {
      const [x, y] = [Math.floor(i / 3) % SIDE, Math.floor(i / 3 / SIDE)];
      return image.data[(y * width + left + x) * 3 + (i % 3)] as number;
    }),
    width: SIDE,
    height: SIDE,
  });
  const [left, right] = [0, SIDE].map((x) => wide.map((image) => half(image, x))) as [RgbImage[], RgbImage[]];
  const margin = (own: RgbImage[], others: RgbImage[], references: RgbImage[]): number =>
    clipI(own, references) - clipI(others, references);
  return {
    title: 'Masks: each reference in its region',
    text: '<code>--images left.png right.png --masks left-half.png right-half.png --width 128</code>, without text.',
    images: await table({ left: first, right: second, drawn: wide }),
    checks: [
      {
        what: 'left reference: CLIP-I inside its mask less outside',
        value: margin(left, right, first),
        atLeast: 0.2,
      },
      {
        what: 'right reference: CLIP-I inside its mask less outside',
        value: margin(right, left, second),
        atLeast: 0.15,
      },
    ],
  };
}

/** Colours of the reference on the shapes of the text. */
async function style(): Promise<Example> {
  const text = await draw((i) => ({ prompt: captions[i] as string }));
  const settings: DrawOptions = { blockScales: { 0: 1, 5: 1.5 } };
  const styled = await draw(
    (i) => ({ prompt: captions[i] as string, images: [second[i] as RgbImage] }),
    settings,
  );
  const all = await draw((i) => ({ prompt: captions[i] as string, images: [second[i] as RgbImage] }));
  const colours = (drawn: RgbImage[]): number =>
    mean((i) => colourOverlap(drawn[i] as RgbImage, second[i] as RgbImage));
  const toScene = (drawn: RgbImage[]): number =>
    mean((i) => shapesIoU(drawn[i] as RgbImage, first[i] as RgbImage));
  const shapes = (drawn: RgbImage[]): number =>
    mean((i) => shapesIoU(drawn[i] as RgbImage, text[i] as RgbImage));
  return {
    title: 'Style: colours of the reference, shapes of the text',
    text: `<code>--block-scales '${JSON.stringify(settings.blockScales)}'</code>: these two of the seven transformers of this small model carry colour. For the
layers of Stable Diffusion 1.5 and SDXL there is <code>--weight-type style</code>.`,
    images: await table({ reference: second, 'text alone': text, styled, 'all layers': all }),
    checks: [
      {
        what: 'overlap of colours with the reference, more than of the text alone',
        value: colours(styled) - colours(text),
        atLeast: 0.5,
      },
      { what: 'IoU of shapes with the text alone', value: shapes(styled), atLeast: 0.6 },
      { what: 'the same, more than with all layers', value: shapes(styled) - shapes(all), atLeast: 0.15 },
      {
        what: "IoU with the text's own scene, gain over the text alone",
        value: toScene(styled) - toScene(text),
        atLeast: -0.15,
      },
    ],
  };
}

/** The same reference, led away from another image. */
async function negativeImage(): Promise<Example> {
  const unlike: RgbImage[] = [];
  // A negative image is for all images of a call.
  for (const [i, negative] of second.entries())
    unlike.push(...(await pipeline.generate({ ...DRAW, seed: i, images: one(i), negativeImage: negative })));
  return {
    title: 'A negative image: less of it',
    text: '<code>--images reference.png --negative-image unwanted.png</code>, from the same noise.',
    images: await table({ reference: first, unwanted: second, without: plain, 'with it': unlike }),
    checks: [
      {
        what: 'CLIP-I to the negative image, fall',
        value: clipI(plain, second) - clipI(unlike, second),
        atLeast: 0.05,
      },
      { what: 'CLIP-I to the reference', value: clipI(unlike, first), atLeast: 0.6 },
    ],
  };
}

/** Two adapters at once, each with a reference of its own. */
async function twoAdapters(): Promise<Example> {
  using two = await IPAdapterPipeline.load({
    model: 'demo/models',
    adapters: [adapter, other].map((file) => ({ adapter: file, imageEncoder })),
  });
  // The second one learnt for a shorter time.
  const scales = [0.5, 0.6];
  const jobs = Array.from({ length: COUNT }, (_, i) => ({
    seed: i,
    adapters: both(i).map((image) => ({ images: [image] })),
  }));
  const drawn = await two.generateEach(jobs, { ...DRAW, adapters: scales.map((scale) => ({ scale })) });
  const shifted = [...first.slice(1), first[0] as RgbImage];
  const unrelated = clipI(drawn, shifted);
  const checks: Check[] = [
    {
      what: "CLIP-I to the first one's reference, more than to others",
      value: clipI(drawn, first) - unrelated,
      atLeast: 0.15,
    },
    {
      what: "CLIP-I to the second one's reference, more than to others",
      value: clipI(drawn, second) - unrelated,
      atLeast: 0.15,
    },
  ];
  return {
    title: 'Two adapters, each with a reference',
    text: '<code>adapters: [{ adapter: …, images: […], scale: 0.5 }, { adapter: …, images: […], scale: 0.6 }]</code>, without text.',
    images: await table({ first, second, drawn }),
    checks,
  };
}

/** The plain setting, against a text that asks for another scene. */
async function influence(): Promise<Example> {
  const words = ['little', 'some', 'half', 'most', 'everything'] as const;
  const columns = new Map<string, RgbImage[]>();
  for (const word of words)
    columns.set(
      word,
      await draw((i) => ({ prompt: captions[i] as string, images: [second[i] as RgbImage] }), {
        influence: word,
      }),
    );
  const scores = words.map((word) => clipI(columns.get(word) as RgbImage[], second));
  return {
    title: 'How much the image counts',
    text: '<code>--influence</code>, with a text that describes another scene.',
    images: await table({ reference: second, ...Object.fromEntries(columns) }),
    checks: words.slice(1).map((word, i) => ({
      what: `CLIP-I of ${word} less ${words[i]}`,
      value: (scores[i + 1] as number) - (scores[i] as number),
      atLeast: 0,
    })),
  };
}
