/**
 * @file A process's place among those that train together, from the environment variables that torchrun sets (pytorch/pytorch
 * torch/distributed/run.py): RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
 */
import { ConfigError } from '../base/errors.js';

/** Where the processes find each other: a file, for those of one host, or a server at an address. */
export type StorePlace =
  | { readonly file: string }
  | {
      readonly host: string;
      readonly port: number;
      /** Whether this process runs the server. */
      readonly isServer: boolean;
    };

export interface RankEnvironment {
  /** 0 … worldSize - 1 */
  readonly rank: number;
  /** The number of processes. */
  readonly worldSize: number;
  /** The rank among the processes of this host. */
  readonly localRank: number;
  readonly localWorldSize: number;
  readonly store: StorePlace;
  /** The number of restarts so far: each start has keys of its own in the store. */
  readonly attempt: number;
}

/** Names the file of `launch`, in place of MASTER_ADDR and MASTER_PORT. */
export const storeFileVariable = 'IP_ADAPTER_STORE_FILE';

const MAX_RANKS = 2 ** 20;

/**
 * Returns the place of this process; undefined where neither RANK nor WORLD_SIZE is set.
 * @throws ConfigError that names each variable that is missing or wrong
 */
export function rankEnvironment(env: NodeJS.ProcessEnv = process.env): RankEnvironment | undefined {
  if (!env.RANK && !env.WORLD_SIZE) return undefined;
  const file = env[storeFileVariable];
  const required = ['RANK', 'WORLD_SIZE', ...(file ? [] : ['MASTER_ADDR', 'MASTER_PORT'])];
  const missing = required.filter((name) => !env[name]);
  if (missing.length > 0)
    throw new ConfigError(
      `The environment has ${required.filter((name) => env[name]).join(', ')} but not ${missing.join(', ')}. Processes that train together need ${required.join(', ')}, which torchrun sets; unset them all to train in one process`,
    );
  const number = (name: string, least: number, most: number, fallback?: number): number => {
    const text = env[name] || undefined;
    const value = text === undefined && fallback !== undefined ? fallback : Number(text);
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    throw new ConfigError(
      `The environment variable ${name} is ${text}; it must be a whole number from ${least} to ${most}`,
    );
  };
  const worldSize = number('WORLD_SIZE', 1, MAX_RANKS);
  const rank = number('RANK', 0, worldSize - 1);
  // Without them, every process has a host of its own.
  const localWorldSize = number('LOCAL_WORLD_SIZE', 1, worldSize, 1);
  const localRank = number('LOCAL_RANK', 0, localWorldSize - 1, 0);
  const attempt = number('TORCHELASTIC_RESTART_COUNT', 0, 1e9, 0);
  const store = file
    ? { file }
    : {
        host: env.MASTER_ADDR as string,
        port: number('MASTER_PORT', 1, 65535),
        // torchrun's agent may run the server itself.
        isServer: rank === 0 && env.TORCHELASTIC_USE_AGENT_STORE !== 'True',
      };
  return { rank, worldSize, localRank, localWorldSize, store, attempt };
}
