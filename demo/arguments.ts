/** @file The arguments of `npm start`. */
import process from 'node:process';
import { parseArgs } from 'node:util';

const kinds = ['plus', 'base', 'full-face'] as const;
export const families = {
  sd15: {
    name: 'Stable Diffusion',
    classes: 'of 4.8 million parameters in the UNet, trained for this demo (demo/pretrain)',
  },
  sdxl: {
    name: 'Stable Diffusion XL',
    classes:
      'of 5.1 million parameters in the UNet, with two text encoders, pooled text and sizes, made from the demo’s Stable Diffusion (demo/models-xl.ts)',
  },
} as const;

export interface Arguments {
  steps: number;
  family: keyof typeof families;
  kind: (typeof kinds)[number];
}

const usage = `Trains an IP-Adapter on generated scenes, and writes a page with images and measures to demo-out/.

    npm start                       1000 steps, about 4 minutes of training on two CPU cores
    npm start -- --steps 6000       under half an hour, and much better
    npm start -- --family sdxl      the same for a small Stable Diffusion XL; default: sd15
    npm start -- --kind base        another kind of adapter: base or full-face; default: plus
    npm start -- --help             this text`;

/** Returns the arguments; prints the usage and ends where they are wrong. */
export function readArguments(args: string[]): Arguments {
  try {
    const { values } = parseArgs({
      args,
      options: {
        steps: { type: 'string', default: '1000' },
        family: { type: 'string', default: 'sd15' },
        kind: { type: 'string', default: 'plus' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    const steps = Number(values.steps);
    if (!Number.isInteger(steps) || steps < 1)
      throw new Error(`--steps is ${values.steps}; it must be a whole number from 1`);
    const family = oneOf('--family', values.family, Object.keys(families) as (keyof typeof families)[]);
    return { steps, family, kind: oneOf('--kind', values.kind, kinds) };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    process.exit(2);
  }
}

function oneOf<T extends string>(flag: string, value: string, allowed: readonly T[]): T {
  if ((allowed as readonly string[]).includes(value)) return value as T;
  throw new Error(`${flag} is ${value}; it must be one of ${allowed.join(', ')}`);
}
