/** @file Restores saved training state, such as optimizer moments. */
import { CheckpointError } from '../base/errors.js';
import { noGrad, type Tensor, tidy } from '../torch/index.js';

const shownFaults = 8;

/**
 * Copies saved tensors into the tensors of the same names.
 * @param what the kind of state, for the error
 * @param where the file, for the error
 * @throws CheckpointError naming each tensor that is missing or has another shape; nothing is copied then
 */
export function copyState(
  into: ReadonlyMap<string, Tensor>,
  saved: ReadonlyMap<string, Tensor>,
  what: string,
  where: string,
): void {
  const faults = [...into].flatMap(([name, { shape }]) =>
    String(saved.get(name)?.shape) === String(shape)
      ? []
      : `${name}: expected [${shape}] but received [${saved.get(name)?.shape ?? 'nothing'}]`,
  );
  if (faults.length > 0)
    throw new CheckpointError(
      `The ${what} in ${where} does not fit: ${faults.slice(0, shownFaults).join('; ')}`,
    );
  using _ = noGrad();
  tidy(() => {
    for (const [name, tensor] of into) tensor.copy_(saved.get(name) as Tensor);
  });
}
