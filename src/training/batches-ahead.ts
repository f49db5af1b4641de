/**
 * @file Reads and encodes the next batch while the processes add up the gradients of the last one. The frozen encoders do not
 * depend on the trained weights and draw no random numbers, so the result is the same to the bit.
 */
import type { Batch } from '../data/data-loader.js';
import type { Examples } from '../data/examples.js';
import type { Part } from '../options/train-options.js';
import { mapTensors, type Tensor, tensorsOf, tidy } from '../torch/index.js';
import type { Encode, Encoding } from './encodings/frozen-encoders.js';
import { BatchFailure } from './steps.js';

type Planned = Batch | BatchFailure;

export class BatchesAhead implements AsyncIterable<Planned>, Disposable {
  /** The encoders, which return what was encoded ahead. */
  readonly encoders: Record<Part, Encode>;
  readonly #encoders: Record<Part, Encode>;
  readonly #batches: AsyncGenerator<Planned>;
  #next: Promise<IteratorResult<Planned>> | undefined;
  /** The encodings of the batch that was read ahead. */
  #encoded: { batch: Batch; encodings: Record<Part, Encoding> } | undefined;

  constructor(encoders: Record<Part, Encode>, batches: AsyncGenerator<Planned>) {
    this.#encoders = encoders;
    this.#batches = batches;
    this.encoders = {
      latents: (examples) => this.#take('latents', examples),
      text: (examples) => this.#take('text', examples),
      image: (examples) => this.#take('image', examples),
    };
  }

  /** Starts to read the next batch, and encodes it when it is there. */
  readNext(): void {
    this.#next ??= this.#batches.next().then((result) => {
      if (!result.done && !(result.value instanceof BatchFailure)) this.#encode(result.value);
      return result;
    });
  }

  [Symbol.asyncIterator](): AsyncIterator<Planned> {
    return {
      next: () => {
        const next = this.#next ?? this.#batches.next();
        this.#next = undefined;
        return next;
      },
      return: () => this.#batches.return(undefined),
    };
  }

  #encode(batch: Batch): void {
    this[Symbol.dispose]();
    if (batch.rows.length === 0) return;
    const { latents, text, image } = this.#encoders;
    try {
      const encodings = tidy(() => ({ latents: latents(batch), text: text(batch), image: image(batch) }));
      this.#encoded = { batch, encodings };
    } catch {
      // Its step encodes it again, and reports what is wrong.
    }
  }

  /** Returns an encoding as a tensor of the caller's scope. */
  #take(part: Part, examples: Examples): Encoding {
    if (this.#encoded?.batch !== examples) return this.#encoders[part](examples);
    return mapTensors(this.#encoded.encodings[part], (tensor: Tensor) => {
      const moved = tensor.detach();
      tensor.dispose();
      return moved;
    });
  }

  [Symbol.dispose](): void {
    for (const tensor of tensorsOf(this.#encoded?.encodings ?? {})) tensor.dispose();
    this.#encoded = undefined;
  }
}
