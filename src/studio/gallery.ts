/**
 * @file The playground's files: what it has generated, and the reference images and masks that were given to it. Names are the
 * studio's own, so that no name of a request is a path.
 *
 *     <runs>/.studio/playground/<milliseconds>-<8 hex digits>.png     generated, with its settings
 *     <runs>/.studio/uploads/<32 hex digits>.<format>                 uploaded; the name is that of the content
 */
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, lstatSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomically } from '../base/atomic-file.js';
import { ConfigError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';
import { useImage } from '../images/image.js';
import { type PlaygroundSettings, readPlaygroundSettings } from './playground-restore.js';

const imageName = /^\d{13}-[0-9a-f]{8}\.png$/;
const uploadName = /^[0-9a-f]{32}\.(jpeg|png|webp|gif|tiff|heif)$/;
const MAX_UPLOADS_BYTES = 8 * 2 ** 30;
/** Images of the history, newest first. */
const MAX_SHOWN = 200;

export interface GalleryImage extends PlaygroundSettings {
  name: string;
}

export interface Upload {
  name: string;
  width: number;
  height: number;
}

export class Gallery {
  readonly #images: string;
  readonly #uploads: string;
  /** Files do not change. */
  readonly #settings = new Map<string, PlaygroundSettings>();

  /** @param folder of runs */
  constructor(folder: string) {
    this.#images = join(folder, '.studio/playground');
    this.#uploads = join(folder, '.studio/uploads');
    for (const path of [this.#images, this.#uploads]) {
      makeFolder(path);
      chmodSync(path, 0o700);
    }
  }

  /** Returns the file of a generated or uploaded image; undefined where there is none. */
  fileOf(name: string): string | undefined {
    const folder = imageName.test(name) ? this.#images : uploadName.test(name) ? this.#uploads : undefined;
    if (folder === undefined) return undefined;
    const file = join(folder, name);
    // A link may lead out.
    return lstatSync(file, { throwIfNoEntry: false })?.isFile() ? file : undefined;
  }

  /** Returns the name of a file of the gallery. */
  nameOf(file: string): string | undefined {
    const name = file.split('/').at(-1) ?? '';
    return this.fileOf(name) === file ? name : undefined;
  }

  /** Returns files for images that are to be generated. */
  newImages(count: number): string[] {
    const now = Date.now();
    return Array.from({ length: count }, (_, i) =>
      join(this.#images, `${now + i}-${randomBytes(4).toString('hex')}.png`),
    );
  }

  /** Returns the newest generated images. */
  async list(): Promise<GalleryImage[]> {
    const names = readdirSync(this.#images)
      .filter((name) => imageName.test(name))
      .sort()
      .reverse()
      .slice(0, MAX_SHOWN);
    return Promise.all(
      names.map(async (name) => {
        const known =
          this.#settings.get(name) ?? (await readPlaygroundSettings(join(this.#images, name), this));
        this.#settings.set(name, known);
        return { name, ...known };
      }),
    );
  }

  /** @returns whether it was there */
  remove(name: string): boolean {
    const file = imageName.test(name) ? this.fileOf(name) : undefined;
    if (file === undefined) return false;
    rmSync(file);
    this.#settings.delete(name);
    return true;
  }

  /**
   * Keeps an image that was uploaded, if all of it can be decoded.
   * @throws ImageError where it is not an image, or too large; ConfigError where there are too many
   */
  async upload(bytes: Uint8Array): Promise<Upload> {
    const source = { name: 'the upload', read: async () => bytes };
    const { format, width, height } = await useImage(source, async (image, header) => ({
      ...{ format: header.format, width: image.width, height: image.height },
    }));
    const name = `${createHash('sha256').update(bytes).digest('hex').slice(0, 32)}.${format}`;
    const file = join(this.#uploads, name);
    if (this.fileOf(name) !== undefined) return { name, width, height };
    const kept = readdirSync(this.#uploads).reduce(
      (sum, one) => sum + (statSync(join(this.#uploads, one), { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
    if (kept + bytes.length > MAX_UPLOADS_BYTES)
      throw new ConfigError(
        `${this.#uploads} has ${MAX_UPLOADS_BYTES} bytes of uploads already; remove those that you do not need`,
      );
    writeFileAtomically(file, (append) => append(bytes));
    return { name, width, height };
  }
}
