/** @file SDXL's part of the conditioning, as UNets and ControlNets take it. */
import type { AddedCondition } from '../models/unet/unet-encoder.js';
import type { Conditioning } from './conditioning.js';

/** Returns the pooled text and the sizes; undefined for a family without. */
export function addedConditionOf({ pooled, timeIds }: Conditioning): AddedCondition | undefined {
  return pooled === undefined || timeIds === undefined ? undefined : { textEmbeds: pooled, timeIds };
}
