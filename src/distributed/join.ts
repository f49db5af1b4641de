/** @file Joins the processes that train together. */
import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { ConfigError } from '../base/errors.js';
import { cudaDevices, torchVersion } from '../torch/index.js';
import { type NativeDistributed, native } from '../torch/native.js';
import { type RankEnvironment, rankEnvironment, type StorePlace } from './environment.js';
import { ProcessGroup, within } from './process-group.js';
import { describeMember, firstLine, type Member, ProcessGroupError } from './process-group-error.js';

export interface JoinOptions {
  /** How long a process waits for another: for its coming, and in each collective. Default: 600 */
  timeoutSeconds?: number;
  /** Receives warnings. */
  onMessage?: (text: string) => void;
}

/** How much longer than its timeout c10d may take, in ms. */
const GRACE_MS = 7000;

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

/**
 * Joins the other processes, whose places are in the environment (RANK, WORLD_SIZE, … as torchrun sets them), and returns
 * when all have come.
 * @returns undefined where the environment names no other process
 * @throws ConfigError where the environment is wrong; ProcessGroupError where a process does not come
 */
export async function joinProcessGroup(options: JoinOptions = {}): Promise<ProcessGroup | undefined> {
  const environment = rankEnvironment();
  return environment === undefined || environment.worldSize === 1 ? undefined : join(environment, options);
}

async function join(
  { rank, worldSize, localRank, localWorldSize, store: place, attempt }: RankEnvironment,
  { timeoutSeconds = 600, onMessage }: JoinOptions,
): Promise<ProcessGroup> {
  const c10d = quietC10d();
  if (c10d === null)
    throw new ConfigError(
      `LibTorch ${torchVersion()} of this machine has no c10d with Gloo, which several processes need: train in one process, or use a LibTorch for Linux`,
    );
  const timeout = timeoutSeconds * 1000;
  const socketInterface = process.env.GLOO_SOCKET_IFNAME ?? '';
  const address = socketInterface === '' ? await ownAddress(place) : addressOf(socketInterface);
  if ('port' in place && place.isServer)
    onMessage?.(
      `Rank 0 listens at port ${place.port} of all its addresses, for ${worldSize} processes. There is no password: use a network that only trusted machines can reach`,
    );
  const self: Member = { host: hostname(), pid: process.pid, address, version, libtorch: torchVersion() };
  // The store of LibTorch 1.13 waits without end where the server is of another version.
  const inTime = <T>(promise: Promise<T>): Promise<T> =>
    within(
      timeout + GRACE_MS,
      promise,
      `no answer of the store within ${timeoutSeconds + GRACE_MS / 1000} s; a torchrun of another PyTorch than LibTorch ${torchVersion()} may run it`,
    );
  let members: readonly Member[] = [];
  try {
    const [store, texts] = await inTime(
      c10d.openStore({
        ...{ rank, worldSize, timeout },
        ...('file' in place
          ? { file: place.file, host: '', port: 0, isServer: false }
          : { file: '', ...place }),
        prefix: `ip-adapter/${attempt}`,
        self: JSON.stringify(self),
      }),
    );
    members = texts.map((text) => JSON.parse(text) as Member);
    assertSameVersions(members);
    const settings = { rank, worldSize, backend: 'gloo', address, interface: socketInterface, timeout };
    const gloo = await inTime(c10d.createGroup(store, settings));
    return new ProcessGroup({
      ...{ rank, worldSize, localRank, localWorldSize, members, timeoutSeconds },
      ...{ c10d, store, gloo },
    });
  } catch (error) {
    if (error instanceof ProcessGroupError) throw error;
    throw new ProcessGroupError(explainJoin((error as Error).message, place, rank, members), {
      cause: error,
    });
  }
}

/**
 * Loads LibTorch so that c10d does not report every try, with stack traces. What a person must know is in the errors. NCCL's
 * watchdog, which ends the process, says at the level of errors what timed out.
 */
function quietC10d(): NativeDistributed | null {
  // Read when LibTorch 1.13 is loaded; the other one when the store is opened.
  process.env.GLOG_minloglevel ??= '3';
  const { distributed } = native();
  process.env.TORCH_CPP_LOG_LEVEL ??= cudaDevices() > 0 ? 'ERROR' : 'FATAL';
  return distributed;
}

/** Returns the address of this host from which its way to the store starts. Nothing is sent. */
async function ownAddress(place: StorePlace): Promise<string> {
  // Not what the host's name resolves to, as c10d does: that is 127.0.1.1 on many machines.
  if ('file' in place) return '127.0.0.1';
  let target: { address: string; family: number };
  try {
    target = await lookup(place.host);
  } catch (cause) {
    throw new ConfigError(
      `MASTER_ADDR is ${place.host}, which is not the name or address of a host: ${(cause as Error).message}`,
      { cause },
    );
  }
  const socket = createSocket(target.family === 6 ? 'udp6' : 'udp4');
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.connect(place.port, target.address, resolve);
    });
    return socket.address().address;
  } catch (cause) {
    throw new ConfigError(
      `MASTER_ADDR is ${place.host}, to which this host has no way: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  } finally {
    socket.close();
  }
}

/** Returns the address of a network interface. */
function addressOf(name: string): string {
  const [address] = networkInterfaces()[name] ?? [];
  if (address !== undefined) return address.address;
  throw new ConfigError(
    `GLOO_SOCKET_IFNAME is ${name}, which is no network interface of this host; it has ${Object.keys(networkInterfaces()).join(', ')}`,
  );
}

function assertSameVersions(members: readonly Member[]): void {
  const [main] = members as [Member];
  for (const [rank, member] of members.entries())
    for (const [key, name] of [
      ['libtorch', 'LibTorch'],
      ['version', 'ip-adapter'],
    ] as const)
      if (member[key] !== main[key])
        throw new ProcessGroupError(
          `Processes that train together need the same ${name}, but ${describeMember(0, main)} has ${main[key]} and ${describeMember(rank, member)} has ${member[key]}`,
        );
}

/** Returns what to tell about c10d's message. @param members those that came, where all came */
function explainJoin(message: string, place: StorePlace, rank: number, members: readonly Member[]): string {
  const detail = firstLine(message);
  if (/^two processes say/.test(detail)) return `${detail}: give every process a RANK of its own`;
  if (/^rank .* did not come/.test(detail))
    return `${detail}. Look whether it runs and what it says, and that all processes have the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE, and LibTorch ${torchVersion()} as this one; if they start slowly, give a higher --distributed-timeout`;
  if (members.length > 0) {
    // LibTorch 1.13 does not name it.
    const [, lost] = /rank_(\d+)/.exec(message) ?? [];
    const others = members.flatMap((member, other) =>
      (lost === undefined ? other !== rank : other === Number(lost)) ? [describeMember(other, member)] : [],
    );
    const who = others.length === 1 ? others[0] : `one of ${others.join(', ')}`;
    return `${who} came, and ended or could not be reached before it was connected (${detail}). Its messages say why; without any, look whether a firewall is between the processes`;
  }
  if (/address already in use/i.test(message))
    return `Port ${'port' in place ? place.port : ''} is in use on this host: give all processes another MASTER_PORT`;
  const where = 'port' in place ? `${place.host}:${place.port}` : place.file;
  return rank === 0 && 'port' in place && place.isServer
    ? `Rank 0 cannot serve at ${where}: ${detail}`
    : `The processes' store at ${where} cannot be reached: ${detail}. Look whether rank 0 runs there, whether MASTER_ADDR and MASTER_PORT are its address and port, whether it has LibTorch ${torchVersion()} as this process, and whether a firewall is between`;
}
