/** @file Assertions on the studio's page. */
import type { Locator, Page } from 'playwright-core';
import sharp from 'sharp';
import { expect, vi } from 'vitest';

/** How many pixels a side images are compared at. */
const SIDE = 64;

/**
 * Waits until an element looks like an image, of which its own square in the middle is compared if `isSquare`, at 64 × 64 pixels
 * and without the edges, where corners are round.
 */
export async function assertShows(shown: Locator, image: string, isSquare = false): Promise<void> {
  const small = (input: string | Buffer): Promise<Buffer> =>
    sharp(input)
      .resize(SIDE, SIDE, { fit: isSquare ? 'cover' : 'fill' })
      .removeAlpha()
      .raw()
      .toBuffer();
  const expected = await small(image);
  await vi.waitFor(
    async () => {
      const pixels = await small(await shown.screenshot());
      let [sum, count] = [0, 0];
      for (let i = 0; i < expected.length; i++) {
        const [x, y] = [Math.floor(i / 3) % SIDE, Math.floor(i / 3 / SIDE)];
        if (Math.min(x, y) < 4 || Math.max(x, y) >= SIDE - 4) continue;
        sum += Math.abs((expected[i] as number) - (pixels[i] as number));
        count++;
      }
      expect(sum / count).toBeLessThan(10);
    },
    { timeout: 20_000, interval: 200 },
  );
}

/** Asserts that axe finds no fault in a page. */
export async function assertAccessible(page: Page): Promise<void> {
  const { default: axe } = await import('axe-core');
  // Not as a script element, which the page's own policy refuses.
  await page.evaluate(axe.source);
  const found = await page.evaluate(
    'axe.run().then(({ violations }) => violations.map(({ id, nodes }) => id + ": " + nodes.map(({ html }) => html).join("; ")))',
  );
  expect(found).toEqual([]);
}
