#!/usr/bin/env node
/**
 * @file `ip-adapter`: sets the number of Node's threads, in which images are read, and starts the program. CommonJS, because
 * an ES module runs after Node has started these threads: four, whatever the machine has.
 */
import os = require('node:os');

/** Node's own number. Fewer would wait for slow disks. */
const LEAST = 4;
const MOST = 1024;

const { env } = process;
// A number from the process that launched this one is not the user's: each of several takes its part of the cores.
if (env.UV_THREADPOOL_SIZE === undefined || env.IP_ADAPTER_THREADPOOL === 'auto') {
  const processes = Math.max(1, Number(env.LOCAL_WORLD_SIZE) || 1);
  const part = Math.floor(os.availableParallelism() / processes);
  env.UV_THREADPOOL_SIZE = String(Math.min(MOST, Math.max(LEAST, part)));
  env.IP_ADAPTER_THREADPOOL = 'auto';
}

void import('./main.js');
