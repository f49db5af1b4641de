import { afterEach, describe, expect, it } from 'vitest';
import { ConfigError } from '../base/errors.js';
import {
  backward,
  cudaDevices,
  graphed,
  memoryStats,
  noGrad,
  type Recorder,
  randn,
  recordCuda,
  type Tensor,
  tensor,
  tidy,
} from './index.js';
import { native } from './native.js';

// Stands for a graph where there is no GPU: runs the same work again, on the same memory.
const runAgain: Recorder = (work) => work;

const recorders: [string, Recorder, string][] = [['running again', runAgain, 'cpu']];
if (cudaDevices() > 0) recorders.push(['CUDA', recordCuda, 'cuda']);

describe.each(recorders)('a function graphed by %s', (_, record, device) => {
  it('gives the same results as the function itself, for each shape in any order', () => {
    const weight = randn([3, 2], { device });
    const fn = graphed(
      ({ x, y }: { x: Tensor; y: Tensor }) => tidy(() => [x.matmul(weight).sigmoid(), y.add(1)]),
      record,
    );
    for (const rows of [1, 4, 1, 1, 4, 4, 1])
      tidy(() => {
        const [x, y] = [randn([rows, 3], { device }), randn([rows], { device })] as const;
        const [product, sum] = fn({ x, y });
        expect(product?.toNumbers()).toEqual(x.matmul(weight).sigmoid().toNumbers());
        expect(sum?.toNumbers()).toEqual(y.add(1).toNumbers());
      });
  });

  it('gives results that the next call does not overwrite', () => {
    const double = graphed((x: Tensor) => [x.mul(2)], record);
    const results = [1, 2, 3, 4].map((value) => double(tensor([value], [1]).to(device))[0]);
    expect(results.map((result) => result?.item())).toEqual([2, 4, 6, 8]);
  });

  it('adds gradients in place, with a factor that is an input', () => {
    const weight = tensor([1, 1], [2]).to(device);
    weight.requiresGrad = true;
    const add = graphed(([x, factor]: [Tensor, Tensor]) => {
      const loss = tidy(() => weight.mul(x).sum().mul(factor));
      tidy(() => backward(loss));
      return [loss.detach()];
    }, record);
    const call = (x: number[], factor: number): void =>
      tidy(() => void add([tensor(x, [2]).to(device), tensor([factor], []).to(device)]));
    call([1, 2], 1);
    call([3, 4], 10);
    call([5, 6], 100);
    expect(weight.grad?.toNumbers()).toEqual([531, 642]);
    tidy(() => void weight.grad?.zero_());
    call([1, 0], 3);
    expect(weight.grad?.toNumbers()).toEqual([3, 0]);
  });

  it('is recorded again where a number of the record is another one', () => {
    const scale = graphed(({ x, by }: { x: Tensor; by: number }) => [x.mul(by)], record);
    const results = [2, 2, 3, 3, 2].map((by) => scale({ x: tensor([1], [1]).to(device), by })[0]?.item());
    expect(results).toEqual([2, 2, 3, 3, 2]);
  });

  it('keeps no tensors but its inputs and outputs', () => {
    using _ = noGrad();
    const fn = graphed((x: Tensor) => [tidy(() => x.exp().sum())], record);
    const call = (): void => tidy(() => void fn(tensor([1, 2], [2]).to(device)));
    for (let i = 0; i < 3; i++) call();
    const initialTensors = memoryStats().liveTensors;
    for (let i = 0; i < 5; i++) call();
    expect(memoryStats().liveTensors).toBe(initialTensors);
  });
});

describe('recordCuda', () => {
  const { cuda } = native;
  afterEach(() => {
    native.cuda = cuda;
  });

  it('says what an addon without CUDA is missing', () => {
    native.cuda = null;
    expect(() => recordCuda(() => {}, 'cuda')).toThrow(ConfigError);
    expect(() => recordCuda(() => {}, 'cuda')).toThrow(
      /cuda_runtime\.h .*CUDA_HOME.*build-native\.mjs --force/,
    );
  });
});
