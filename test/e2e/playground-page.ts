/** @file What tests do on the playground's page, and how they look at what it has made. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Locator, Page } from 'playwright-core';
import sharp from 'sharp';
import { expect, vi } from 'vitest';

/** A point of a canvas, as fractions of its width and height. */
type Point = readonly [x: number, y: number];

const soon = { timeout: 90_000, interval: 100 };

export function pixelsOf(file: string): Promise<Buffer> {
  return sharp(file).removeAlpha().raw().toBuffer();
}

export class PlaygroundPage {
  readonly page: Page;
  readonly #runs: string;

  /** @param runs the studio's folder of runs */
  constructor(page: Page, runs: string) {
    this.page = page;
    this.#runs = runs;
  }

  field(name: string): Locator {
    return this.page.getByLabel(name, { exact: true });
  }

  button(name: string): Locator {
    return this.page.getByRole('button', { name, exact: true });
  }

  image(name: string): Locator {
    return this.page.getByRole('img', { name, exact: true });
  }

  async fill(values: Readonly<Record<string, string>>): Promise<void> {
    const isFolded = !(await this.field('Model').isVisible());
    if (isFolded) await this.page.getByText('Model, size and sampler').click();
    for (const [name, value] of Object.entries(values)) await this.field(name).fill(value);
  }

  /** Names of whole images: a file has another name until it is written. */
  images(): string[] {
    return readdirSync(join(this.#runs, '.studio/playground'))
      .filter((name) => !name.includes('.partial'))
      .sort();
  }

  /** Returns the file of an upload. */
  upload(name: unknown): string {
    return join(this.#runs, '.studio/uploads', name as string);
  }

  /** Generates; returns the file of the new image when the page shows it, and what was asked for. */
  async generated(): Promise<{ file: string; asked: Record<string, unknown> }> {
    const before = this.images().length;
    const [request] = await Promise.all([
      this.page.waitForRequest((one) => one.method() === 'POST' && one.url().endsWith('/playground/jobs')),
      this.button('Generate').click(),
    ]);
    const answer = await request.response();
    expect([answer?.status(), await answer?.json()]).toEqual([201, { id: expect.any(String) }]);
    await vi.waitFor(async () => {
      const faults = await this.page.getByRole('alert').allTextContents();
      expect([this.images().length, ...faults]).toEqual([before + 1]);
    }, soon);
    await vi.waitFor(async () => expect(await this.page.locator('.tile').count()).toBe(before + 1), soon);
    const file = join(this.#runs, '.studio/playground', this.images().at(-1) as string);
    return { file, asked: request.postDataJSON() as Record<string, unknown> };
  }

  /** Drops a file on a part of the page. */
  async drop(file: string, target = '.results'): Promise<void> {
    const dataTransfer = await this.page.evaluateHandle(transferOf(file));
    await this.page.dispatchEvent(target, 'drop', { dataTransfer });
  }

  /** Pastes an image from the clipboard, where the pointer or the focus is. */
  async paste(file: string): Promise<void> {
    await this.page.evaluate(
      `document.activeElement.dispatchEvent(
        new ClipboardEvent('paste', { clipboardData: ${transferOf(file)}, bubbles: true, cancelable: true }),
      )`,
    );
  }

  get canvas(): Locator {
    return this.image('What is painted');
  }

  /** Returns how many pixels of the mask are painted. */
  painted(): Promise<number> {
    return this.page.evaluate(
      `(() => {
        const canvas = document.querySelector('.mask-editor canvas');
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return data.reduce((sum, value, i) => sum + (i % 4 === 3 && value > 127 ? 1 : 0), 0);
      })()`,
    );
  }

  /** Paints a line with the mouse. */
  async paint(...points: readonly Point[]): Promise<void> {
    const box = await this.canvas.boundingBox();
    if (box === null) throw new Error('The canvas is not shown');
    const to = ([x, y]: Point): Promise<void> =>
      this.page.mouse.move(box.x + x * box.width, box.y + y * box.height);
    await to(points[0] as Point);
    await this.page.mouse.down();
    for (const point of points) await to(point);
    await this.page.mouse.up();
  }
}

/** Returns whether a mask is white at points, which are fractions of its width and height. */
export async function maskAt(file: string): Promise<{
  width: number;
  height: number;
  /** Pixels that are more white than black. */
  white: number;
  isWhite(point: Point): boolean;
}> {
  const { data, info } = await sharp(file)
    .removeAlpha()
    .extractChannel(0)
    .raw()
    .toBuffer({ resolveWithObject: true });
  const { width, height } = info;
  return {
    ...{ width, height, white: data.reduce((sum, value) => sum + (value > 127 ? 1 : 0), 0) },
    isWhite: ([x, y]) => (data[Math.floor(y * height) * width + Math.floor(x * width)] as number) > 127,
  };
}

/** Returns an expression of a page: what a browser gives of an image that is dropped or pasted. */
function transferOf(file: string): string {
  return `(() => {
    const bytes = Uint8Array.from(atob('${readFileSync(file).toString('base64')}'), (c) => c.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], 'image.png', { type: 'image/png' }));
    return transfer;
  })()`;
}
