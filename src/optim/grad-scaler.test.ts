import { describe, expect, it } from 'vitest';
import { backward, tensor, tidy } from '../torch/index.js';
import { gradNorm } from './clip-grad-norm.js';
import { GradScaler } from './grad-scaler.js';

const [fine, overflow] = [tensor([1], []), tensor([Number.POSITIVE_INFINITY], [])];

/** Returns a scaler after that many steps without overflow. */
function grown(steps: number, scaler = new GradScaler()): GradScaler {
  for (let i = 0; i < steps; i++) expect(scaler.update(fine)).toBe(true);
  return scaler;
}

describe('GradScaler', () => {
  it('starts at 65536 and doubles after 2000 consecutive steps without overflow', () => {
    expect(grown(1999).stateDict()).toEqual({ scale: 65536, goodSteps: 1999 });
    expect(grown(2000).stateDict()).toEqual({ scale: 131072, goodSteps: 0 });
  });

  it.each([Number.POSITIVE_INFINITY, Number.NaN])(
    'halves on %s, refuses the update, and counts anew',
    (bad) => {
      const scaler = grown(1999);
      expect(scaler.update(tensor([bad], []))).toBe(false);
      expect(scaler.stateDict()).toEqual({ scale: 32768, goodSteps: 0 });
      expect(scaler.update(overflow)).toBe(false);
      expect(grown(1999, scaler).scale).toBe(16384);
      expect(grown(1, scaler).scale).toBe(32768);
    },
  );

  it('does not grow to infinity in float32', () => {
    const scaler = new GradScaler();
    scaler.loadStateDict({ scale: 2 ** 127, goodSteps: 1999 });
    expect(grown(1, scaler).stateDict()).toEqual({ scale: 2 ** 127, goodSteps: 0 });
  });

  it('resumes from a saved state', () => {
    const scaler = new GradScaler();
    scaler.loadStateDict({ scale: 1024, goodSteps: 1998 });
    expect(grown(1, scaler).scale).toBe(1024);
    expect(grown(1, scaler).scale).toBe(2048);
  });

  it('preserves gradients that would underflow in half precision', () => {
    const gradient = (scaler: GradScaler | null): number => {
      const x = tensor([1], [1]);
      x.requiresGrad = true;
      return tidy(() => {
        // Backward passes the gradient through float16, whose smallest number is 6e-8.
        const loss = x.to('float16').to('float32').mul(1e-8).sum();
        backward(scaler === null ? loss : loss.mul(scaler.scale));
        scaler?.unscale([x.grad as typeof x]);
        return (x.grad as typeof x).item();
      });
    };
    expect(gradient(null)).toBe(0);
    expect(gradient(new GradScaler())).toBeCloseTo(1e-8, 11);
  });

  it('detects an overflow of the scaled gradients', () => {
    const x = tensor([1], [1]);
    x.requiresGrad = true;
    const scaler = new GradScaler();
    tidy(() => backward(x.to('float16').to('float32').mul(2).sum().mul(scaler.scale)));
    scaler.unscale([x.grad as typeof x]);
    expect(scaler.update(gradNorm([x.grad as typeof x]))).toBe(false);
    expect(scaler.scale).toBe(32768);
  });
});
