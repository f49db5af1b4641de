/**
 * @file Measures what the studio costs and how fast its page is, on the demo's models.
 *
 * 1. The step of a training with nobody looking, with three clients of its event stream, and with a browser that draws its
 *    curves on the same cores, in turn within one training; ratios are medians of the rounds.
 * 2. The page of a run of 10^5 steps: the time of a frame while a chart is panned, the time until the list of runs is painted,
 *    and the bytes of a first visit.
 *
 *     npx tsx bench/studio.ts [--rounds 8] [--seconds 6]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import type { Page } from 'playwright-core';
import { writeDataset } from '../demo/world/dataset.js';
import { launchChromium } from '../test/browser.js';
import { median } from './side-by-side.js';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '8' }, seconds: { type: 'string', default: '6' } },
});
const CLIENTS = 3;
const POINTS = 100_000;
const root = join(import.meta.dirname, '..');
const program = join(root, 'dist/cli/ip-adapter.cjs');
const work = mkdtempSync(join(tmpdir(), 'bench-studio-'));
const runs = join(work, 'runs');
const children: ChildProcess[] = [];

function start(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
  children.push(child);
  return child;
}

/** The times at which steps were done, seconds since 1970. */
function stepTimes(): number[] {
  return readFileSync(join(runs, 'training/metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ type }) => type === 'step')
    .map(({ time }) => time);
}

/** Returns the mean time of a step while `work` goes on, in ms. */
async function measure(begin: () => Promise<() => Promise<void>>): Promise<number> {
  const end = await begin();
  await sleep(500);
  const from = Date.now() / 1000;
  await sleep(Number(values.seconds) * 1000);
  const to = Date.now() / 1000;
  await end();
  // Steps are written in groups, twice a second.
  await sleep(700);
  const times = stepTimes().filter((time) => time >= from && time <= to);
  return (1000 * ((times.at(-1) as number) - (times[0] as number))) / (times.length - 1);
}

async function follow(url: string, token: string, signal: AbortSignal): Promise<void> {
  const headers = { Authorization: `Bearer ${token}` };
  const { body } = await fetch(`${url}api/runs/training/events`, { headers, signal });
  try {
    for await (const _ of body as ReadableStream<Uint8Array>) if (signal.aborted) return;
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function stepCost(url: string, token: string, page: Page): Promise<void> {
  const dataset = await writeDataset(join(work, 'scenes'), { count: 400, split: 'train', seed: 1 });
  const models = join(root, 'demo/models');
  const paths = ['--model', models, '--image-encoder', join(models, 'image_encoder'), '--dataset', dataset];
  const settings = ['--resolution', '64', '--batch-size', '16', '--cache', 'latents,text,image'];
  const endless = ['--max-steps', '1000000', '--save-steps', '1000000'];
  const training = start('train', ...paths, ...settings, ...endless, '--output-dir', join(runs, 'training'));
  for (let steps = 0; steps < 40; await sleep(500))
    try {
      steps = stepTimes().length;
    } catch {
      // It has not begun.
    }
  const conditions: Record<string, () => Promise<() => Promise<void>>> = {
    alone: async () => async () => {},
    streams: async () => {
      const abort = new AbortController();
      const clients = Array.from({ length: CLIENTS }, () => follow(url, token, abort.signal));
      return async () => {
        abort.abort();
        await Promise.all(clients);
      };
    },
    browser: async () => {
      await page.goto(`${url}#/run/training`);
      await page.locator('.uplot').first().waitFor();
      return async () => void (await page.goto('about:blank'));
    },
  };
  const ratios: Record<string, number[]> = { streams: [], browser: [] };
  const alones: number[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    const names = Object.keys(conditions);
    // Another one is the first each time, and 'alone' is never far from the others.
    const order = names.map((_, i) => names[(i + round) % names.length] as string);
    const times: Record<string, number> = {};
    for (const name of order) times[name] = await measure(conditions[name] as never);
    const { alone = 0, ...others } = times;
    alones.push(alone);
    for (const [name, time] of Object.entries(others)) ratios[name]?.push(time / alone);
  }
  training.kill('SIGKILL');
  await once(training, 'exit');
  console.log(`a step alone: ${median(alones).toFixed(1)} ms, ${alones.length} rounds`);
  for (const [name, list] of Object.entries(ratios)) {
    const sorted = [...list].sort((a, b) => a - b);
    console.log(
      `with ${name === 'streams' ? `${CLIENTS} event streams` : 'a browser that draws'}: × ${median(list).toFixed(3)} (${sorted[0]?.toFixed(3)} … ${sorted.at(-1)?.toFixed(3)})`,
    );
  }
}

function writeLongRun(): void {
  mkdirSync(join(runs, 'long'), { recursive: true });
  const lines = Array.from({ length: POINTS }, (_, i) => {
    const wave = Math.sin(i / 500) / 20 + Math.sin(i * 12.9898) / 10;
    const step = { v: 1, type: 'step', step: i + 1, total_steps: POINTS, time: 1.7e9 + i };
    return JSON.stringify({ ...step, loss: 0.3 + wave, grad_norm: 1 + wave, 'lr/image_proj': 1e-4 });
  });
  writeFileSync(join(runs, 'long/metrics.jsonl'), `${lines.join('\n')}\n`);
}

/** Pans the first chart for some seconds, zoomed so that all points can come by. @returns times between frames, ms */
async function pan(page: Page, url: string): Promise<number[]> {
  await page.goto(`${url}#/run/long`);
  const over = page.locator('.u-over').first();
  await over.waitFor();
  const box = (await over.boundingBox()) as { x: number; y: number; width: number; height: number };
  const y = box.y + box.height / 2;
  // A zoom to nine tenths, by dragging.
  await page.mouse.move(box.x + box.width * 0.05, y);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.95, y, { steps: 4 });
  await page.mouse.up();
  await page.evaluate(`(() => {
    window.frames_ = [];
    let last = performance.now();
    const next = (now) => { window.frames_.push(now - last); last = now; window.timer_ = requestAnimationFrame(next); };
    window.timer_ = requestAnimationFrame(next);
  })()`);
  await page.keyboard.down('Shift');
  await page.mouse.move(box.x + box.width / 2, y);
  await page.mouse.down();
  for (let i = 0; i < 300; i++) {
    await page.mouse.move(box.x + box.width / 2 + 60 * Math.sin(i / 15), y);
    await sleep(10);
  }
  await page.mouse.up();
  await page.keyboard.up('Shift');
  return (await page.evaluate('cancelAnimationFrame(window.timer_), window.frames_.slice(2)')) as number[];
}

/** Returns the time from the visit to the first row of the list, in ms: the median of five visits with an empty cache. */
async function firstRow(open: () => Promise<Page>, url: string, token: string): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 5; i++) {
    const page = await open();
    // Seen by the page itself: the way of the message to this process does not count.
    await page.addInitScript(`new MutationObserver((_, observer) => {
      if (document.querySelector('.run') === null) return;
      observer.disconnect();
      requestAnimationFrame(() => requestAnimationFrame(() => { window.firstRow = performance.now(); }));
    }).observe(document, { childList: true, subtree: true })`);
    await page.goto(`${url}#token=${token}`);
    let time: unknown;
    while (time === undefined) {
      await sleep(20);
      time = await page.evaluate('window.firstRow');
    }
    times.push(time as number);
    await page.context().close();
  }
  return median(times);
}

mkdirSync(runs);
writeLongRun();
const studio = start('studio', '--runs', runs, '--port', '0');
const [line] = (await once(studio.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
const [url = '', token = ''] = String(line).trim().split('#token=');
const browser = await launchChromium();
try {
  const assets = join(root, 'dist/studio-page/assets');
  const files = [
    join(root, 'dist/studio-page/index.html'),
    ...readdirSync(assets).map((name) => join(assets, name)),
  ];
  const bytes = files.reduce((sum, file) => sum + gzipSync(readFileSync(file)).length, 0);
  console.log(`first visit: ${(bytes / 1024).toFixed(0)} KiB gzipped`);
  const open = async (): Promise<Page> => (await browser.newContext()).newPage();
  console.log(`first row painted after ${(await firstRow(open, url, token)).toFixed(0)} ms`);
  const page = await open();
  await page.goto(`${url}#token=${token}`);
  await page.locator('.run').first().waitFor();
  const frames = (await pan(page, url)).sort((a, b) => a - b);
  const quantile = (share: number): number => frames[Math.floor(share * (frames.length - 1))] as number;
  console.log(
    `panning ${POINTS} points: ${frames.length} frames, median ${quantile(0.5).toFixed(1)} ms, p95 ${quantile(0.95).toFixed(1)} ms`,
  );
  await stepCost(url, token, page);
} finally {
  await browser.close();
  for (const child of children) child.kill('SIGKILL');
  rmSync(work, { recursive: true });
}
