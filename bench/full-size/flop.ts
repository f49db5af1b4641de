/**
 * @file Counts floating-point operations in the calls to the native addon. It must be imported before all other modules,
 * since it records operators as they are looked up; bench/train.ts passes it to Node with --import.
 *
 * A product of [n, k] and [k, m] counts 2nkm. Backward computes one such product for each operand that requires a gradient.
 * What attention's backward recomputes is not counted, and what Winograd's algorithm saves is.
 */
import { native, type RawHandle } from '../../src/torch/native.js';
import { flop } from './measured.js';

const size = (handle: RawHandle): number =>
  native()
    .shape(handle)
    .reduce((product, length) => product * length, 1);
const isHandle = (value: unknown): value is RawHandle => typeof value === 'number' && value > 2 ** 27;

/** The operations of one call, from its operands and its result. */
const products: Record<string, (operands: RawHandle[], result: RawHandle) => number> = {
  'aten::linear': ([, weight = 0], result) => 2 * size(result) * (native().shape(weight)[1] ?? 0),
  'aten::conv2d': convolutionFlop,
  'ip_adapter::conv3x3': convolutionFlop,
  'aten::matmul': ([left = 0], result) => 2 * size(result) * (native().shape(left).at(-1) ?? 0),
  'ip_adapter::attention': attentionFlop,
  'aten::scaled_dot_product_attention': attentionFlop,
};

function convolutionFlop([, weight = 0]: RawHandle[], result: RawHandle): number {
  return 2 * size(result) * (size(weight) / (native().shape(weight)[0] ?? 1));
}

function attentionFlop([query = 0, key = 0]: RawHandle[], result: RawHandle): number {
  const keys = native().shape(key).at(-2) ?? 0;
  return 2 * keys * (size(query) + size(result));
}

const names = new Map<number, string>();
const { findOperator, call } = native();
native().findOperator = (name, overload) => {
  const operator = findOperator(name, overload);
  if (operator !== null) names.set(operator[0], name);
  return operator;
};
native().call = (index, ...args) => {
  const result = call(index, ...args);
  const count = products[names.get(index) ?? ''];
  if (count !== undefined) {
    const operands = args.slice(0, 3).filter(isHandle);
    const forward = count(operands, result as RawHandle);
    flop.forward += forward;
    // A bias needs no products; attention computes three gradients with four products, and two in forward.
    const isAttention = names.get(index)?.includes('attention');
    const differentiated = operands
      .slice(0, isAttention ? 3 : 2)
      .filter((handle) => native().requiresGrad(handle)).length;
    if (native().isGradEnabled())
      flop.backward += forward * (isAttention ? (2 * differentiated) / 3 : differentiated);
  }
  return result;
};
