import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { locateAddon } from '../../tools/build-native.mjs';
import { CheckpointError, TorchError } from '../base/errors.js';
import { makeOperator } from './dispatch.js';
import {
  arange,
  backward,
  cat,
  full,
  Generator,
  isGradEnabled,
  memoryStats,
  noGrad,
  op,
  randint,
  randn,
  type Tensor,
  tensor,
  tidy,
  trimMemory,
  zeros,
} from './index.js';

describe('operators', () => {
  it('compute what PyTorch computes', () => {
    const a = tensor([1, 2, 3, 4], [2, 2]);
    expect(a.matmul(a).toNumbers()).toEqual([7, 10, 15, 22]);
    expect(a.add(a, 2).sub(1).toNumbers()).toEqual([2, 5, 8, 11]);
    expect(a.transpose(0, 1).contiguous().toNumbers()).toEqual([1, 3, 2, 4]);
    expect(cat([a, a.slice(1, 0, 1)], 1).shape).toEqual([2, 3]);
  });

  it('keep integers integers, and know every dtype', () => {
    expect(tensor([1, 2], [2], 'int64').mul(3).dtype).toBe('int64');
    expect(tensor([1, 2], [2], 'int64').mul(0.5).dtype).toBe('float32');
    for (const dtype of [
      'float32',
      'float64',
      'float16',
      'bfloat16',
      'uint8',
      'int8',
      'int16',
      'int32',
      'int64',
    ] as const) {
      const made = tensor([1, 0, 3], [3], dtype);
      expect(made.dtype).toBe(dtype);
      expect(made.toNumbers()).toEqual([1, 0, 3]);
    }
    expect(tensor([1, 0, 3], [3], 'bool').toNumbers()).toEqual([1, 0, 1]);
  });

  it('name the operator, the shapes and the dtypes when they fail', () => {
    const a = zeros([2, 3]);
    expect(() => a.matmul(a)).toThrow(TorchError);
    expect(() => a.matmul(a)).toThrow(
      /aten::matmul\(Tensor\(\[2, 3\], float32\), Tensor\(\[2, 3\], float32\)\): .*2x3 and 2x3/,
    );
    expect(() => (a as unknown as { matmul(x: unknown): void }).matmul(3)).toThrow(
      /Expected a Tensor for argument 'other'/,
    );
    expect(() => (a as unknown as { permute(x: unknown): void }).permute('x')).toThrow(
      /Expected an integer for argument 'dims'/,
    );
    expect(() => zeros([1e9, 1e9])).toThrow(TorchError);
  });

  it('are compared with the live library', () => {
    const never = (): Tensor => expect.unreachable();
    for (const schema of [
      'aten::relu(Tensor self, int extra) -> Tensor',
      'aten::relu(Tensor other) -> Tensor',
      'aten::relu(Tensor self) -> (Tensor, Tensor)',
    ]) {
      const wrong = makeOperator(schema, never) as (...args: unknown[]) => unknown;
      expect(() => wrong(zeros([1]))).toThrow(/has another aten::relu/);
      expect(() => Reflect.get(wrong, 'available')).toThrow(/has another aten::relu/);
    }
    const missing = op('aten::no_such_operator(Tensor self) -> Tensor');
    expect(missing.available).toBe(false);
    expect(() => missing(zeros([1]))).toThrow(/has no operator aten::no_such_operator/);
  });
});

describe('readLater', () => {
  it('gives the values of when it was called, row-major', () => {
    const x = tensor([1, 2, 3, 4], [2, 2]);
    const read = x.transpose(0, 1).readLater();
    x.zero_();
    expect(read()).toEqual([1, 3, 2, 4]);
    expect(read()).toEqual([1, 3, 2, 4]);
    expect(tensor([], [0]).readLater()()).toEqual([]);
  });

  it('takes float32 alone', () => {
    expect(() => tensor([1], [1], 'int64').readLater()).toThrow('float32');
  });
});

describe('lifetime', () => {
  it('tidy releases what is made inside, and keeps what is returned', () => {
    const before = memoryStats().liveTensors;
    let inner: Tensor | undefined;
    const kept = tidy(() => {
      inner = zeros([3]);
      return { list: [inner.add(1)], map: new Map([['x', inner.add(2)]]) };
    });
    expect(inner?.isDisposed).toBe(true);
    expect(memoryStats().liveTensors).toBe(before + 2);
    expect(kept.list[0]?.toNumbers()).toEqual([1, 1, 1]);
    kept.list[0]?.dispose();
    kept.map.get('x')?.dispose();
    expect(memoryStats().liveTensors).toBe(before);
  });

  it('tidy releases on a throw too, and nests', () => {
    const before = memoryStats().liveTensors;
    expect(() =>
      tidy(() => {
        zeros([1]);
        throw new Error('mine');
      }),
    ).toThrow('mine');
    tidy(() => {
      const inner = tidy(() => zeros([2]).add(1));
      expect(inner.toNumbers()).toEqual([1, 1]);
    });
    expect(memoryStats().liveTensors).toBe(before);
  });

  it('refuses a promise, a disposed tensor, and a handle that was used again', () => {
    expect(() => tidy(async () => 1)).toThrow(/promise/);
    const a = zeros([1]);
    a.dispose();
    zeros([1]);
    expect(() => a.exp()).toThrow(/disposed/);
    expect(() => a.shape).toThrow(/disposed/);
  });

  it('the garbage collector releases what was forgotten', () => {
    const script = `
      const { tensor, memoryStats } = await import('./src/torch/index.js');
      for (let i = 0; i < 1000; i++) tensor([1], [1]);
      const made = memoryStats().liveTensors;
      for (let i = 0; i < 50 && memoryStats().liveTensors > 10; i++) { gc(); await new Promise((r) => setTimeout(r, 10)); }
      console.log(made, memoryStats().liveTensors);`;
    const out = execFileSync(process.execPath, [
      '--expose-gc',
      '--import',
      'tsx',
      '--input-type=module',
      '-e',
      script,
    ]);
    const [made = 0, left = Number.POSITIVE_INFINITY] = out.toString().trim().split(' ').map(Number);
    expect(made).toBeGreaterThan(900);
    expect(left).toBeLessThanOrEqual(10);
  });

  it('a worker thread has tensors of its own, and ends cleanly', async () => {
    for (let i = 0; i < 3; i++) {
      const worker = startWorker('parentPort.postMessage(addon.liveTensors());');
      expect(await once(worker, 'message')).toEqual([0]);
      await worker.terminate();
    }
  });

  it('a worker can be terminated during a call', async () => {
    const calls = `
      const [randn] = addon.findOperator('aten::randn', '');
      const [matmul] = addon.findOperator('aten::matmul', '');
      const big = addon.call(randn, [500, 500]);
      parentPort.postMessage('ready');
      for (;;) {
        addon.release([addon.call(matmul, big, big)]);
        try { addon.call(matmul, big); } catch {}
      }`;
    // In a process of its own: without a remedy it is the whole process that ends.
    const script = `
      import { once } from 'node:events';
      import { Worker } from 'node:worker_threads';
      for (let i = 0; i < 5; i++) {
        const worker = new Worker(process.argv[1], { eval: true, execArgv: [] });
        await once(worker, 'message');
        await new Promise((done) => setTimeout(done, i * 3));
        await worker.terminate();
      }
      console.log('survived');`;
    const { stdout } = await promisify(execFile)(process.execPath, [
      '--input-type=module',
      '-e',
      script,
      workerCode(calls),
    ]);
    expect(stdout.trim()).toBe('survived');
  }, 180_000);
});

function workerCode(code: string): string {
  return `
    const { parentPort } = require('node:worker_threads');
    const addon = require(${JSON.stringify(locateAddon().path)});
    ${code}`;
}

function startWorker(code: string): Worker {
  return new Worker(workerCode(code), { eval: true });
}

describe('the CPU allocator', () => {
  it('counts, keeps and gives back large blocks', () => {
    trimMemory();
    const before = memoryStats();
    const big = zeros([1 << 20]);
    expect(memoryStats().cpuAllocatedBytes - before.cpuAllocatedBytes).toBe(4 << 20);
    big.dispose();
    expect(memoryStats().cpuAllocatedBytes).toBe(before.cpuAllocatedBytes);
    expect(memoryStats().cpuCachedBytes).toBe(4 << 20);
    zeros([1 << 20]).dispose();
    expect(memoryStats().cpuCachedBytes).toBe(4 << 20);
    trimMemory();
    expect(memoryStats().cpuCachedBytes).toBe(0);
  });
});

describe('autograd', () => {
  it('gives gradients, adds them up, and can be off', () => {
    const w = tensor([2, 3], [2]);
    w.requiresGrad = true;
    backward(w.square().sum());
    backward(w.sum());
    expect(w.grad?.toNumbers()).toEqual([5, 7]);
    w.grad = null;
    expect(w.grad).toBeNull();
    {
      using _ = noGrad();
      expect(isGradEnabled()).toBe(false);
      expect(w.mul(2).requiresGrad).toBe(false);
    }
    expect(isGradEnabled()).toBe(true);
    expect(w.mul(2).requiresGrad).toBe(true);
  });

  it('keeps what backward needs when the scope has let go', () => {
    const w = full([4], 3);
    w.requiresGrad = true;
    const loss = tidy(() => tidy(() => w.mul(w)).sum());
    backward(loss);
    expect(w.grad?.toNumbers()).toEqual([6, 6, 6, 6]);
  });
});

describe('Generator', () => {
  it('gives the numbers of torch.manual_seed', () => {
    // torch.manual_seed(42); torch.randn(2, 3) in PyTorch
    const expected = [0.3366904, 0.1288094, 0.2344624, 0.230333, -1.1228564, -0.1863283];
    const got = randn([2, 3], { generator: new Generator('cpu', 42) }).toNumbers();
    got.forEach((value, i) => {
      expect(value).toBeCloseTo(expected[i] as number, 6);
    });
  });

  it('goes on from a saved state to the bit', () => {
    const first = new Generator('cpu', 7);
    randn([5], { generator: first });
    const state = first.getState();
    const wanted = [
      randn([3], { generator: first }).toNumbers(),
      randint(0, 1000, [4], { generator: first }).toNumbers(),
    ];
    const second = new Generator('cpu', 0);
    second.setState(state, 'here');
    expect([
      randn([3], { generator: second }).toNumbers(),
      randint(0, 1000, [4], { generator: second }).toNumbers(),
    ]).toEqual(wanted);
    expect(() => second.setState(new Uint8Array(3), 'a/checkpoint-1')).toThrow(CheckpointError);
    expect(() => second.setState(new Uint8Array(3), 'a/checkpoint-1')).toThrow('a/checkpoint-1');
    const impossible = state.slice().fill(255);
    expect(() => second.setState(impossible, 'a/checkpoint-1')).toThrow(CheckpointError);
  });

  it('arange counts', () => {
    expect(arange(0, 5, 2, { dtype: 'int64' }).toNumbers()).toEqual([0, 2, 4]);
  });
});
