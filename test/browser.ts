/** @file Debian's Chromium, for tests of the studio's page. */
import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const places = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** The program; undefined where there is none. */
export const chromiumPath = process.env.CHROMIUM ?? places.find((path) => existsSync(path));
if (chromiumPath === undefined)
  process.stderr.write(`No Chromium in ${places.join(', ')}: tests of the studio's page are skipped\n`);

export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath: chromiumPath as string,
    // Tests may run as root, where Chromium's own sandbox refuses to.
    args: ['--no-sandbox', '--disable-background-networking', '--disable-dev-shm-usage'],
  });
}
