/**
 * @file A tree of modules whose fields are named as in published checkpoints, so that the keys of a state
 * dictionary fall out of the tree: `unet.down_blocks[0].resnets[1].conv1.weight` is
 * 'down_blocks.0.resnets.1.conv1.weight'.
 */
import { CheckpointError } from '../base/errors.js';
import { type Device, type DType, noGrad, Tensor, tidy } from '../torch/index.js';

/**
 * A function of tensors with parameters.
 *
 * Every public field that is a Tensor is a parameter and every one that is a Module is a part; both also inside
 * arrays, where a null keeps a number free for a part without parameters. A tensor that is no parameter belongs
 * in a #private field. Parameters start on the 'meta' device, without memory, and frozen.
 *
 * A module owns its parameters: it disposes those that it replaces. Loading and moving must not happen inside a
 * `tidy` that ends before the module is done with.
 */
export abstract class Module<Args extends unknown[] = [x: Tensor], Out = Tensor> {
  protected abstract forward(...args: Args): Out;

  /** Runs the module and releases every tensor made on the way, except the result. */
  call(...args: Args): Out {
    return tidy(() => this.forward(...args));
  }

  /** Every parameter by its key in a checkpoint, in the order of the fields. */
  namedParameters(): Map<string, Tensor> {
    const found = new Map<string, Tensor>();
    for (const { key, holder, field } of slots(this)) found.set(key, holder[field] as Tensor);
    return found;
  }

  parameters(): Tensor[] {
    return [...this.namedParameters().values()];
  }

  /** Makes every parameter trainable, or frozen. */
  requiresGrad_(on: boolean): this {
    for (const parameter of this.parameters()) parameter.requiresGrad = on;
    return this;
  }

  /** Moves or converts every parameter, in place. Whoever holds the old tensors (an optimizer) must take the new. */
  to(target: { device?: Device; dtype?: DType }): this {
    using _ = noGrad();
    for (const { holder, field } of slots(this)) {
      const before = holder[field] as Tensor;
      if (
        before.dtype === (target.dtype ?? before.dtype) &&
        before.device === (target.device ?? before.device)
      )
        continue;
      replace(holder, field, before.to(target));
    }
    return this;
  }

  /** Lays the weights of convolutions out as a GPU's tensor cores take them; their results are laid out so, too. */
  toChannelsLast(): this {
    using _ = noGrad();
    for (const { holder, field } of slots(this)) {
      const before = holder[field] as Tensor;
      if (before.ndim === 4) replace(holder, field, before.contiguous('channels_last'));
    }
    return this;
  }

  /**
   * Takes the tensors as the parameters, as they are: no copy, no conversion.
   * @param where the file or other origin, for the error
   * @throws CheckpointError that lists every missing, unexpected and misshaped key; the module is then unchanged.
   */
  loadStateDict(tensors: ReadonlyMap<string, Tensor>, where: string): void {
    const wanted = new Map(Array.from(slots(this), (slot) => [slot.key, slot]));
    const missing = [...wanted.keys()].filter((key) => !tensors.has(key));
    const unexpected = [...tensors.keys()].filter((key) => !wanted.has(key));
    const misshaped: string[] = [];
    for (const [key, { holder, field }] of wanted) {
      const expected = (holder[field] as Tensor).shape.join(', ');
      const received = tensors.get(key)?.shape.join(', ') ?? expected;
      if (received !== expected) misshaped.push(`${key} expected [${expected}] but received [${received}]`);
    }
    const faults = [
      list('missing', missing),
      list('unexpected', unexpected),
      list('misshaped', misshaped),
    ].join('');
    if (faults !== '')
      throw new CheckpointError(
        `Expected the ${wanted.size} tensors of ${this.constructor.name} in ${where} but received ${tensors.size} that do not fit:${faults}`,
      );

    for (const [key, { holder, field }] of wanted) replace(holder, field, tensors.get(key) as Tensor);
  }
}

/** A part of a chain. Null does nothing: upstream has dropout there, and a model that runs frozen has none. */
export type Step = Module | ((x: Tensor) => Tensor) | null;

/** Runs the steps one after another and lets go of each intermediate as soon as the next is there. */
export function chain(x: Tensor, steps: readonly Step[]): Tensor {
  let out = x;
  for (const step of steps) {
    if (step === null) continue;
    const next = step instanceof Module ? step.call(out) : step(out);
    if (out !== x && out !== next) out.dispose();
    out = next;
  }
  return out;
}

/** Steps one after another; their keys are their positions: '0.weight', '2.weight'. */
export class Sequential extends Module {
  [position: number]: Step;
  readonly #steps: readonly Step[];

  constructor(...steps: Step[]) {
    super();
    this.#steps = steps;
    Object.assign(this, steps);
  }

  protected forward(x: Tensor): Tensor {
    return chain(x, this.#steps);
  }
}

/** Where a parameter is kept. */
interface Slot {
  key: string;
  holder: Record<string, unknown>;
  field: string;
}

function* slots(holder: object, prefix = ''): Generator<Slot> {
  for (const [field, value] of Object.entries(holder)) {
    const key = prefix + field;
    if (value instanceof Tensor) yield { key, holder: holder as Record<string, unknown>, field };
    else if (value instanceof Module || Array.isArray(value)) yield* slots(value, `${key}.`);
  }
}

function replace(holder: Record<string, unknown>, field: string, parameter: Tensor): void {
  const before = holder[field] as Tensor;
  if (before === parameter) return;
  if (before.requiresGrad) parameter.requiresGrad = true;
  holder[field] = parameter;
  before.dispose();
}

const shownKeys = 8;

function list(title: string, keys: readonly string[]): string {
  if (keys.length === 0) return '';
  const more = keys.length > shownKeys ? [`… and ${keys.length - shownKeys} more`] : [];
  return `\n  ${title} (${keys.length}): ${[...keys.slice(0, shownKeys), ...more].join('; ')}`;
}
