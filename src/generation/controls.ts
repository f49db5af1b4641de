/** @file What ControlNets add in a step (diffusers StableDiffusionControlNetPipeline and MultiControlNetModel). */
import type { Conditioning } from '../diffusion/conditioning.js';
import type { ControlNet } from '../diffusion/controlnet.js';
import type { Residuals } from '../diffusion/model.js';
import { cat, mapTensors, type Tensor, tidy, zeros, zipTensors } from '../torch/index.js';
import { isInRange, type Side } from './guidance.js';

/** A ControlNet with its image. */
export interface Control {
  net: ControlNet;
  /** The image's embedding, a row for all images or one for each; see `ControlNet.embed`. */
  condition: Tensor;
  /** Factor on what it adds: 0 nothing, 1 as trained. */
  scale: number;
  /** The fractions of the steps, 0 … 1, between which it acts. */
  range: readonly [start: number, end: number];
}

export interface Controls {
  nets: readonly Control[];
  /** Controls the prediction of the positive prompt alone, and its coarse states more than its fine ones. */
  guessMode: boolean;
}

/** A call of the backbone. */
interface Call {
  sides: readonly Side[];
  /** Of one side: the latents as the backbone takes them, and its conditioning. */
  input: Tensor;
  conditionings: Readonly<Record<Side, Conditioning>>;
  timestep: Tensor;
}

/** Returns what the ControlNets add to a call of the backbone in a step, counted from 0; undefined for nothing. */
export function residualsOf(
  { nets, guessMode }: Controls,
  { sides, input, conditionings, timestep }: Call,
  step: number,
  totalSteps: number,
): Residuals | undefined {
  const active = nets.filter(({ scale, range }) => scale !== 0 && isInRange(range, step, totalSteps));
  const isGuess = guessMode || nets[0]?.net.globalPool === true;
  const seen = isGuess ? sides.filter((side) => side === 'positive') : sides;
  if (active.length === 0 || seen.length === 0) return undefined;
  return tidy(() => {
    const noisy = cat(seen.map(() => input));
    const conditioning = zipTensors(
      seen.map((side) => conditionings[side]) as [Conditioning, ...Conditioning[]],
      (rows) => cat(rows),
    );
    const [first, ...others] = active.map(({ net, condition, scale }) => {
      const rows = condition.shape[0] === 1 ? condition : cat(seen.map(() => condition));
      const residuals = net.residuals(noisy, timestep, conditioning, rows);
      return scaled(residuals, scale, isGuess && !net.globalPool);
    }) as [Residuals, ...Residuals[]];
    const sum = zipTensors([first, ...others], (tensors) => tensors.reduce((all, one) => all.add(one)));
    return seen.length === sides.length ? sum : mapTensors(sum, (one) => cat([zeros(one.shape, one), one]));
  });
}

/** In guess mode the scales rise from a tenth at the finest state to 1 at the middle, evenly by their logarithm. */
function scaled(residuals: Residuals, scale: number, isGuess: boolean): Residuals {
  const last = residuals.down.length;
  const at = (i: number): number => scale * (isGuess ? 10 ** (i / last - 1) : 1);
  return { down: residuals.down.map((one, i) => one.mul(at(i))), mid: residuals.mid.mul(at(last)) };
}
