/** @file Keeps what a run tells. */
import type { RunEvent } from '../src/base/run-context.js';

export class Recorder {
  readonly losses: number[] = [];
  readonly messages: string[] = [];
  readonly progress: [done: number, total: number][] = [];

  readonly onEvent = (event: RunEvent): void => {
    if (event.type === 'step') this.losses.push(event.loss);
    if (event.type === 'message') this.messages.push(event.text);
    if (event.type === 'progress') this.progress.push([event.done, event.total]);
  };
}

/** The event of the last step of a group, which has the group's speed. */
export function endsGroup(event: RunEvent): event is Extract<RunEvent, { type: 'step' }> {
  return event.type === 'step' && 'speed/images_per_second' in event;
}
