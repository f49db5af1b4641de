import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { tarOf } from '../../test/write-tar.js';
import { readImage } from '../images/image.js';
import { openDataset } from './open-dataset.js';

let dir: string;
const at = (...names: string[]): string => join(dir, ...names);
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-folder-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

function put(...names: string[]): void {
  for (const name of names) {
    mkdirSync(dirname(at(name)), { recursive: true });
    writeFileSync(at(name), `content of ${name}`);
  }
}

/** A dataset's images, and what is not among them, by their names in the folder. */
async function opened(outputDir?: string) {
  const messages: string[] = [];
  const onMessage = (message: string) => messages.push(message);
  const dataset = await openDataset({ dataset: dir }, { onMessage, ...(outputDir && { outputDir }) });
  const { rows, incomplete, leftOut } = dataset;
  const names = (list: readonly { file: string; reason: string }[]) =>
    Object.fromEntries(list.map(({ file, reason }) => [relative(dir, file), reason]));
  return {
    images: [...rows].map(({ image, captions }) => `${relative(dir, image.name)}: ${captions[0]}`),
    incomplete: names(incomplete),
    leftOut: names(leftOut),
    messages,
  };
}

describe('a folder of images', () => {
  it('has images of every ending that is read, and names those that are not', async () => {
    put('1.jpg', '1.txt', '2.AVIF', '2.txt', '3.jfif', '3.txt', '4.gif', '4.txt', '5.tif', '5.txt');
    put('6.heic', '6.txt', '7.bmp', '7.mov', '7.txt', 'readme.txt', 'logo.gif', '1.tiff', 'b/1.heic');
    const { images, incomplete, leftOut, messages } = await opened();
    expect(images.map((image) => image.split(':')[0])).toEqual([
      '1.jpg',
      '2.AVIF',
      '3.jfif',
      '4.gif',
      '5.tif',
    ]);
    const reason = expect.stringMatching(/its extension is not supported .*\.avif.* convert it/);
    expect(incomplete).toEqual({ '6.heic': reason, '7.bmp': reason, '7.mov': reason });
    expect(leftOut).toEqual({
      'readme.txt': 'there is no image with its name',
      'logo.gif': 'it has no caption beside it (.txt)',
      '1.tiff': '1.jpg is used, with the caption of both',
    });
    expect(messages).toContainEqual(expect.stringMatching(/^Skipped .*6\.heic: its extension/));
    expect(messages).toContainEqual(expect.stringMatching(/^Left out .*logo\.gif: it has no caption/));
  });

  it('names what is there where nothing can be used', async () => {
    await expect(opened()).rejects.toThrow(/but received nothing\.$/);
    put('a.bin');
    await expect(opened()).rejects.toThrow(/but received other files, such as a\.bin\.$/);
    put('3.heic', '3.txt');
    await expect(opened()).rejects.toThrow(/there are none:\n.*3\.heic: its extension is not supported/);
    put('1.heic', '1.txt', '2.gif');
    await expect(opened()).rejects.toThrow(
      /there are none:.*1\.heic: its extension.*2\.gif: it has no caption/s,
    );
  });

  it('passes over what is hidden and what macOS adds', async () => {
    put(
      '1.jpg',
      '1.txt',
      '._1.jpg',
      '._1.txt',
      '.DS_Store',
      '__MACOSX/._1.jpg',
      '__MACOSX/2.jpg',
      '.x/3.jpg',
    );
    expect(await opened()).toMatchObject({
      images: ['1.jpg: content of 1.txt'],
      incomplete: {},
      leftOut: {},
    });
  });

  it('follows links, but not back to where it is', async () => {
    put('a/1.jpg', 'a/1.txt');
    const other = mkdtempSync(join(tmpdir(), 'ip-adapter-folder-'));
    writeFileSync(join(other, '2.jpg'), '');
    writeFileSync(join(other, '2.txt'), 'linked');
    symlinkSync(other, at('b'));
    symlinkSync(dir, at('a', 'up'));
    symlinkSync(at('a'), join(other, 'across'));
    symlinkSync(at('nowhere'), at('broken'));
    const { images, leftOut } = await opened();
    expect(images).toEqual([
      'a/1.jpg: content of a/1.txt',
      'b/2.jpg: linked',
      'b/across/1.jpg: content of a/1.txt',
    ]);
    const reason = 'a link to a folder that contains it';
    expect(leftOut).toEqual({ 'a/up': reason, 'b/across/up': reason });
    rmSync(other, { recursive: true });
  });

  it('does not enter the output folders of runs, its own or older ones', async () => {
    put('1.jpg', '1.txt');
    const before = await openDataset({ dataset: dir });
    put('out/validation/step-10.png', 'new/5.png');
    put('old/metrics.jsonl', 'old/config.yaml', 'old/validation/10.png');
    put('older/metrics.jsonl', 'older/checkpoint-5/x', 'older/validation/10.png');
    symlinkSync(at('out'), at('link'));
    await expect(opened(at('link'))).rejects.toThrow(/1 of 2 have none:\n {2}new\/5\.png\n/);
    rmSync(at('new'), { recursive: true });
    const { images, leftOut } = await opened(at('link'));
    expect(images).toEqual(['1.jpg: content of 1.txt']);
    expect(Object.keys(leftOut)).toEqual(['link', 'old', 'older', 'out']);
    const after = await openDataset({ dataset: dir }, { outputDir: at('out') });
    expect(after.fingerprint).toBe(before.fingerprint);
    // A dataset may have a file of that name, and a run's folder may be the dataset.
    put('metrics.jsonl', 'config.yaml');
    expect((await opened(at('out'))).images).toHaveLength(1);
  });

  it('pairs names whose accents are composed or decomposed', async () => {
    const [composed, decomposed] = ['caf\u00e9', 'cafe\u0301'];
    put(`${composed}.jpg`, `${decomposed}.txt`, `a/${decomposed}.png`, `a/${composed}.TXT`);
    put(...[composed, decomposed].flatMap((name) => [`b/${name}.png`, `b/${name}.txt`]));
    const { images, leftOut } = await opened();
    expect(new Set(images)).toEqual(
      new Set([
        `${composed}.jpg: content of ${decomposed}.txt`,
        `a/${decomposed}.png: content of a/${composed}.TXT`,
        `b/${composed}.png: content of b/${composed}.txt`,
        `b/${decomposed}.png: content of b/${decomposed}.txt`,
      ]),
    );
    expect(leftOut).toEqual({});
  });

  it('names an image whose name is not UTF-8', async () => {
    put('1.jpg', '1.txt');
    for (const name of ['m\u00fc.jpg', 'm\u00fc.txt']) writeFileSync(Buffer.from(at(name), 'latin1'), '');
    const { images, incomplete } = await opened();
    expect(images).toHaveLength(1);
    expect(incomplete).toEqual({ 'm\ufffd.jpg': expect.stringMatching(/not in UTF-8: rename it/) });
  });

  it('names what it leaves out beside shards, too', async () => {
    writeFileSync(
      at('1.tar'),
      await tarOf([
        ['1.jpg', 'x'],
        ['1.txt', 'a'],
      ]),
    );
    put('logo.gif', 'out/metrics.jsonl', 'out/config.yaml', 'out/1.png');
    const { rows, leftOut } = await openDataset({ dataset: dir });
    expect([rows.length, leftOut.map(({ file }) => file)]).toEqual([1, [at('out')]]);
    await expect(openDataset({ dataset: at('a-{011..000}.tar') })).rejects.toThrow(
      /names no file; swap its ends/,
    );
    await expect(openDataset({ dataset: at('a-{0..99999999999}.tar') })).rejects.toThrow(
      /at most 1000000 files/,
    );
  });

  it('has masks beside images, which are no rows of their own', async () => {
    put('dog.jpg', 'dog.txt', 'dog.mask.png', 'cat.jpg', 'cat.txt', 'cat.mask.png', 'cat.mask.txt');
    const masks = async (readMasks: boolean) => {
      const { rows } = await openDataset({ dataset: dir, readMasks });
      return [...rows].map(({ image, mask }) =>
        [image, mask].map((file) => file && relative(dir, file.name)),
      );
    };
    expect(await masks(true)).toEqual([
      ['cat.jpg', 'cat.mask.png'],
      ['dog.jpg', 'dog.mask.png'],
    ]);
    // One with a caption of its own is an image, unless masks are used.
    expect(await masks(false)).toEqual([
      ['cat.jpg', undefined],
      ['cat.mask.png', undefined],
      ['dog.jpg', undefined],
    ]);
  });

  it('never waits for a named pipe', async () => {
    put('1.jpg', '1.txt', '2.txt');
    execFileSync('mkfifo', [at('2.jpg')]);
    const { rows } = await openDataset({ dataset: dir });
    await expect(readImage(rows.at(1)!.image)).rejects.toThrow(/2\.jpg but it is a named pipe/);
    put('3.jpg');
    execFileSync('mkfifo', [at('3.txt')]);
    await expect(openDataset({ dataset: dir })).rejects.toThrow(/3\.txt but it is a named pipe/);
    for (const name of ['a.tar', 'a.json', 'a.jsonl', 'a.parquet']) {
      execFileSync('mkfifo', [at(name)]);
      await expect(openDataset({ dataset: at(name) })).rejects.toThrow(/it is a named pipe, not a file/);
    }
    await expect(openDataset({ dataset: '/dev/zero' })).rejects.toThrow(
      /Expected a JSON, .* received \/dev\/zero/,
    );
  });
});
