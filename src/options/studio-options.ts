/** @file The options of `ip-adapter studio`. */
import { z } from 'zod';
import { datasetOptions, flag, path, whole } from './options.js';

const loopback = /^(localhost|127(\.\d+){3}|::1)$/;

/** Whether an address or name reaches this machine alone. */
export function isLoopback(host: string): boolean {
  return loopback.test(host);
}

export const studioOptionsSchema = z.strictObject({
  runs: path.prefault('.').describe('folder whose sub-folders are output folders of runs, old and new'),
  datasets: z
    .union([path.transform((one) => [one]), z.array(path)], 'must be folders')
    .default([])
    .describe('folders with datasets that may be trained on and looked at; default: --runs'),
  models: z
    .union([path.transform((one) => [one]), z.array(path)], 'must be folders')
    .default([])
    .describe('folders with models and image encoders that may be used; names on the Hub always may'),
  shardCacheSize: datasetOptions.shardCacheSize,
  host: z.string().default('127.0.0.1').describe('address to listen on; 0.0.0.0: all'),
  port: whole(0, 65_535).default(7866).describe('port to listen on; 0: any that is free'),
  basePath: z
    .string()
    .regex(/^\/([\w.~-]+\/?)*$/, 'must be a path such as /studio')
    .default('/')
    .describe('path of the page behind a proxy'),
  allowedHost: z
    .union([z.string().transform((one) => [one]), z.array(z.string())], 'must be names of hosts')
    .default([])
    .describe('names by which a tunnel or proxy is reached, besides localhost and addresses'),
  token: flag
    .default(true)
    .describe('ask for the token in the URL that is printed; --no-token: on loopback only'),
  jobs: whole(1, 64).default(1).describe('trainings of the queue that run at the same time'),
  onEvent: z
    .string()
    .optional()
    .describe(
      'command to run when a run ends or a verdict on it falls, with the event as JSON on its standard input',
    ),
});

export type StudioOptions = z.output<typeof studioOptionsSchema>;
