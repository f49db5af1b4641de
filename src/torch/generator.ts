/** @file Seeded random numbers (at::Generator) whose state can be saved and restored. */
import { CheckpointError } from '../base/errors.js';
import { native } from './native.js';
import { type Device, Tensor } from './tensor.js';

const finalizers = new FinalizationRegistry((handle: number) => native.releaseGenerator(handle));

/** A source of random numbers on one device; the same seed gives the same numbers. */
export class Generator {
  /** @internal */
  readonly generatorHandle: number;

  /** @param seed an integer, 0 ≤ seed ≤ 2^53 - 1 */
  constructor(device: Device, seed: number) {
    this.generatorHandle = native.createGenerator(device, seed);
    finalizers.register(this, this.generatorHandle);
  }

  /** Returns the complete state, which determines all following numbers. */
  getState(): Uint8Array {
    const state = new Tensor(native.getGeneratorState(this.generatorHandle));
    const bytes = state.toBytes();
    state.dispose();
    return bytes;
  }

  /**
   * Restores a state.
   * @param where the file or other origin, for the error
   * @throws CheckpointError where the bytes are not a state of this kind of generator
   */
  setState(bytes: Uint8Array, where: string): void {
    const state = new Tensor(native.fromBytes(bytes, 0, [bytes.length]));
    try {
      native.setGeneratorState(this.generatorHandle, state.handle);
    } catch (cause) {
      throw new CheckpointError(
        `Expected the state of a random generator in ${where} but ${(cause as Error).message.split('\n')[0]}`,
        { cause },
      );
    } finally {
      state.dispose();
    }
  }
}
