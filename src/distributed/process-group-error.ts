/** @file The error of a process that has lost the others, with c10d's messages in words. */
import { UserError } from '../base/errors.js';

/** What every process tells the others about itself when it joins. */
export interface Member {
  readonly host: string;
  readonly pid: number;
  /** The address at which the others reach it. */
  readonly address: string;
  /** The version of this package, and of LibTorch. */
  readonly version: string;
  readonly libtorch: string;
}

/**
 * The processes of a training run cannot find each other, or one has ended. The process cannot use its group afterwards, and
 * should end.
 */
export class ProcessGroupError extends UserError {}

export function describeMember(rank: number, { host, pid }: Member): string {
  return `rank ${rank} (process ${pid} on ${host})`;
}

/** Returns the first sentence of c10d's message, without a full stop. */
export function firstLine(message: string): string {
  return (message.split(/\n|\. (?=[A-Z])/)[0] as string).replace(/\.+$/, '');
}

/** Returns the message of an error of a collective. @param failures what other ranks have reported before they ended */
export function explainCollective(
  message: string,
  members: readonly Member[],
  failures: ReadonlyMap<number, string>,
  timeoutSeconds: number,
): string {
  const resume = 'Start all processes again with --resume auto';
  if (failures.size > 0) {
    const reports = Array.from(
      failures,
      ([rank, report]) => `${describeMember(rank, members[rank] as Member)} failed: ${report}`,
    );
    return reports.join('\n');
  }
  const detail = firstLine(message);
  if (/time[d ]?.?out/i.test(detail))
    return `Another process did not answer within ${timeoutSeconds} s (${detail}): it hangs, is stopped, or cannot be reached. ${resume}; if it only was slow, give a higher --distributed-timeout`;
  // Gloo names the neighbour that it lost, which may have ended because of yet another process.
  const peers = members.flatMap((member, rank) =>
    detail.includes(`[${member.address}]`) ? [describeMember(rank, member)] : [],
  );
  const others = members.length === peers.length ? [] : peers;
  const who = others.length === 0 ? 'Another process' : `A process on the other side (${others.join(', ')})`;
  return `${who} ended or lost its connection (${detail}). Its own messages say why, or the system killed it: with too little memory, dmesg says so. ${resume}`;
}
