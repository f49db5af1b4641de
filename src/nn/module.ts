/**
 * @file The base class of modules. Their fields are named as in published checkpoints, so that the state-dict keys are the
 * paths of fields: `unet.down_blocks[0].resnets[1].conv1.weight` is 'down_blocks.0.resnets.1.conv1.weight'.
 */
import { CheckpointError } from '../base/errors.js';
import { type Device, type DType, noGrad, releasePages, Tensor, tidy } from '../torch/index.js';

/**
 * A function of tensors with parameters.
 *
 * Every public field that is a Tensor is a parameter, and every one that is a Module is a submodule. Both may be in arrays,
 * where null stands for a submodule without parameters. Tensors that are not parameters must be in #private fields.
 * Parameters start frozen and on the 'meta' device, without memory.
 *
 * A module owns its parameters, and disposes those that it replaces. It must not be loaded or moved inside a `tidy` that
 * ends while the module is still in use.
 */
export abstract class Module<Args extends unknown[] = [x: Tensor], Out = Tensor> implements Disposable {
  protected abstract forward(...args: Args): Out;

  /** Runs the module and releases all intermediate tensors. */
  call(...args: Args): Out {
    return tidy(() => this.forward(...args));
  }

  /** Releases every parameter. */
  [Symbol.dispose](): void {
    for (const parameter of this.parameters()) parameter.dispose();
  }

  /** Returns every parameter by its state-dict key, in the order of the fields. */
  namedParameters(): Map<string, Tensor> {
    return new Map(Array.from(slots(this), ({ key, holder, field }) => [key, holder[field] as Tensor]));
  }

  parameters(): Tensor[] {
    return [...this.namedParameters().values()];
  }

  /** Makes every parameter trainable or frozen. */
  requiresGrad_(on: boolean): this {
    for (const parameter of this.parameters()) parameter.requiresGrad = on;
    return this;
  }

  /** Replaces parameters, one after another, by what `fn` returns for them; undefined keeps one. */
  replaceParameters(fn: (key: string, parameter: Tensor) => Tensor | undefined): this {
    for (const { key, holder, field } of slots(this)) {
      const parameter = holder[field] as Tensor;
      replace(holder, field, fn(key, parameter) ?? parameter);
    }
    return this;
  }

  /** Moves or converts every parameter. The old tensors are disposed, so an optimizer must be created afterwards. */
  to(target: { device?: Device; dtype?: DType }): this {
    using _ = noGrad();
    return this.replaceParameters((_, parameter) => {
      const { dtype, device } = parameter;
      const isThere = dtype === (target.dtype ?? dtype) && device === (target.device ?? device);
      if (isThere) return undefined;
      const moved = parameter.to(target);
      // A file stays mapped until the last of its tensors is replaced; its values are not needed beside the copies.
      releasePages({ parameters: () => [parameter] });
      return moved;
    });
  }

  /** Converts convolution weights to the channels-last layout of a GPU's tensor cores; outputs then have this layout too. */
  toChannelsLast(): this {
    using _ = noGrad();
    return this.replaceParameters((_, parameter) =>
      parameter.ndim === 4 ? parameter.contiguous('channels_last') : undefined,
    );
  }

  /**
   * Replaces the parameters by the tensors, without copy or conversion.
   * @param where the file or other origin, for the error
   * @throws CheckpointError listing every missing, unexpected and misshaped key; the module is then unchanged
   */
  loadStateDict(tensors: ReadonlyMap<string, Tensor>, where: string): void {
    const expectedSlots = new Map(Array.from(slots(this), (slot) => [slot.key, slot]));
    const missing = [...expectedSlots.keys()].filter((key) => !tensors.has(key));
    const unexpected = [...tensors.keys()].filter((key) => !expectedSlots.has(key));
    const misshaped: string[] = [];
    for (const [key, { holder, field }] of expectedSlots) {
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
        `Expected the ${expectedSlots.size} tensors of ${this.constructor.name} in ${where} but received ${tensors.size} that do not fit:${faults}`,
      );

    for (const [key, { holder, field }] of expectedSlots) replace(holder, field, tensors.get(key) as Tensor);
  }
}

/** A step of a chain. Null does nothing; it stands for upstream's dropout, which frozen models do not need. */
export type Step = Module | ((x: Tensor) => Tensor) | null;

/** Runs the steps in order and releases each intermediate tensor after its last use. */
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

/** Runs steps in order, like torch.nn.Sequential; state-dict keys start with the position: '0.weight', '2.weight'. */
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
  const replaced = holder[field] as Tensor;
  if (replaced === parameter) return;
  if (replaced.requiresGrad) parameter.requiresGrad = true;
  holder[field] = parameter;
  replaced.dispose();
}

const shownKeys = 8;

function list(title: string, keys: readonly string[]): string {
  if (keys.length === 0) return '';
  const more = keys.length > shownKeys ? [`… and ${keys.length - shownKeys} more`] : [];
  return `\n  ${title} (${keys.length}): ${[...keys.slice(0, shownKeys), ...more].join('; ')}`;
}
