import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { captionWords, fullCaption, randomCaption } from './caption.js';
import { writeDataset } from './dataset.js';
import { seededRandom } from './random.js';
import { compareScenes, readScene } from './read-scene.js';
import { renderScene, SIDE } from './render.js';
import { areApart, COLOURS, PLACES, type Scene, sampleScenes, sceneKey, splitOf } from './scene.js';

const train = sampleScenes(400, 'train', 1);
const heldOut = sampleScenes(400, 'held-out', 1);

describe('sampleScenes', () => {
  it('gives the same scenes for the same seed, and others for another', () => {
    expect(sampleScenes(400, 'train', 1)).toEqual(train);
    expect(sampleScenes(400, 'train', 2)).not.toEqual(train);
  });

  it('gives different scenes, none of them in both splits', () => {
    const keys = [...train, ...heldOut].map(sceneKey);
    expect(new Set(keys).size).toBe(800);
    expect(new Set(train.map(splitOf))).toEqual(new Set(['train']));
    expect(new Set(heldOut.map(splitOf))).toEqual(new Set(['held-out']));
  });

  it('puts things on a background of another colour, apart from each other and ordered by place', () => {
    for (const { background, things } of train) {
      expect(things.map(({ colour }) => colour)).not.toContain(background);
      const [first, second] = things;
      if (first === undefined || second === undefined) continue;
      expect(first.place).toBeLessThan(second.place);
      expect(areApart(first.place, second.place)).toBe(true);
    }
    expect(new Set(train.map(({ things }) => things.length))).toEqual(new Set([1, 2]));
  });
});

describe('renderScene', () => {
  const scene: Scene = {
    background: 'blue',
    things: [
      { shape: 'square', colour: 'white', size: 'large', place: PLACES.indexOf('top left') },
      { shape: 'ring', colour: 'red', size: 'small', place: PLACES.indexOf('bottom') },
    ],
  };
  const at = (data: Uint8Array, x: number, y: number) => [
    ...data.subarray((y * SIDE + x) * 3, (y * SIDE + x) * 3 + 3),
  ];

  it('renders each thing at its place in its colour', () => {
    const data = renderScene(scene);
    expect(at(data, 14, 14)).toEqual([...COLOURS.white]);
    expect(at(data, 32, 50 - 6)).toEqual([...COLOURS.red]);
    expect(at(data, 32, 50)).toEqual([...COLOURS.blue]);
    expect(at(data, 63, 0)).toEqual([...COLOURS.blue]);
  });

  it('renders the same bytes again', () => expect(renderScene(scene)).toEqual(renderScene(scene)));

  it('renders different scenes differently', () => {
    const rendered = [...train, ...heldOut].map((scene) =>
      Buffer.from(renderScene(scene)).toString('base64'),
    );
    expect(new Set(rendered).size).toBe(800);
  });
});

describe('captions', () => {
  it('can name everything, in one wording', () => {
    expect(
      fullCaption({
        background: 'orange',
        things: [
          { shape: 'star', colour: 'red', size: 'small', place: 0 },
          { shape: 'cross', colour: 'blue', size: 'large', place: 5 },
        ],
      }),
    ).toBe('a small red star at the top left and a large blue cross at the right on an orange background');
    expect(new Set(train.map(fullCaption)).size).toBe(train.length);
  });

  it('are true, whatever they omit', () => {
    const random = seededRandom(1);
    const attributes = new Set(captionWords());
    for (const scene of train) {
      const truth = new Set(fullCaption(scene).split(' '));
      const wording = ['a', 'an', 'and', 'on', 'background', 'centre', 'middle', 'in', 'at', 'the'];
      for (const word of randomCaption(scene, random).replace(',', '').split(' ')) {
        expect(attributes).toContain(word);
        if (!wording.includes(word)) expect(truth).toContain(word);
      }
      for (const { shape } of scene.things) expect(randomCaption(scene, random)).toContain(shape);
    }
  });
});

describe('readScene', () => {
  it('recognises rendered scenes', () => {
    for (const scene of train.slice(0, 100)) expect(readScene(renderScene(scene))).toEqual(scene);
  });

  it('recognises them under strong noise', () => {
    const random = seededRandom(2);
    const noisy = (data: Uint8Array) =>
      data.map((value) => Math.max(0, Math.min(255, value + 120 * (random() - 0.5))));
    const right = train
      .slice(0, 40)
      .filter((scene) => sceneKey(readScene(noisy(renderScene(scene)))) === sceneKey(scene));
    expect(right.length).toBeGreaterThanOrEqual(36);
  });

  it('sees no things in a plain image', () => {
    expect(readScene(renderScene({ background: 'green', things: [] }))).toEqual({
      background: 'green',
      things: [],
    });
  });
});

describe('compareScenes', () => {
  it('counts attributes of the thing at the same place', () => {
    const thing = { shape: 'star', colour: 'red', size: 'small', place: 0 } as const;
    const expected: Scene = { background: 'blue', things: [thing, { ...thing, place: 8 }] };
    const seen: Scene = { background: 'blue', things: [{ ...thing, colour: 'green' }] };
    expect(compareScenes(expected, seen)).toEqual({
      background: { right: 1, all: 1 },
      count: { right: 0, all: 1 },
      place: { right: 1, all: 2 },
      shape: { right: 1, all: 2 },
      colour: { right: 0, all: 2 },
      size: { right: 1, all: 2 },
    });
  });
});

describe('writeDataset', () => {
  it('writes images and the list of their captions', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'world-'));
    try {
      const rows = JSON.parse(
        readFileSync(await writeDataset(folder, { count: 3, split: 'held-out', seed: 1 }), 'utf8'),
      );
      const scenes = heldOut.slice(0, 3);
      expect(rows.map(({ text }: { text: string }) => text)).toEqual(scenes.map(fullCaption));
      const pixels = await sharp(join(folder, rows[2].image_file)).raw().toBuffer();
      expect(new Uint8Array(pixels)).toEqual(renderScene(scenes[2] as Scene));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
