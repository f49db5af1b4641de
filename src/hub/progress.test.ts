import { expect, it, vi } from 'vitest';
import { DownloadProgress } from './progress.js';

it('reports the rate since the last message, at most every five seconds', () => {
  const clock = vi.spyOn(performance, 'now').mockReturnValue(1000);
  const messages: string[] = [];
  const progress = new DownloadProgress('org/name', 2, 3_440_000_000, (message) => messages.push(message));
  const file = { path: 'unet/x.safetensors', size: 3_400_000_000, etag: '', isLfs: true };
  for (let second = 1; second <= 11; second++) {
    clock.mockReturnValue(1000 + 1000 * second);
    progress.update(file, 1e9 + second * 50e6, 50e6);
  }
  progress.finish();
  clock.mockRestore();
  expect(messages).toEqual([
    'Downloading org/name: 2 files, 3.44 GB',
    'Downloading org/name: unet/x.safetensors, 1.25 of 3.40 GB, 50.0 MB/s',
    'Downloading org/name: unet/x.safetensors, 1.50 of 3.40 GB, 50.0 MB/s',
    'Downloaded org/name: 0.55 GB in 11.0 s',
  ]);
});
