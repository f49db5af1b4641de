/**
 * @file A network on overlapping tiles of its input, so that its memory does not grow with the image (diffusers
 * `src/diffusers/models/autoencoders/autoencoder_kl.py`, `tiled_decode`). Tiles overlap by a quarter, and are blended there.
 */
import { cat, type Tensor, tensor } from '../../torch/index.js';

const OVERLAP = 0.25;

/** The sides of a tile, before the network and after it. */
export interface TileSize {
  input: number;
  output: number;
}

/** Returns whether tiles of this side, before and after the network, can overlap. */
export function canTile(side: number): boolean {
  return side * OVERLAP >= 1;
}

/**
 * Returns what the network makes of x, tile by tile.
 * @param x [n, channels, h, w]
 * @param network multiplies height and width by output / input; its result may be overwritten
 */
export function inTiles(x: Tensor, network: (tile: Tensor) => Tensor, { input, output }: TileSize): Tensor {
  const stride = Math.trunc(input * (1 - OVERLAP));
  const overlap = Math.trunc(output * OVERLAP);
  const kept = output - overlap;
  const [, , height = 0, width = 0] = x.shape;
  const rows: Tensor[] = [];
  let above: Tensor[] = [];
  for (let top = 0; top < height; top += stride) {
    const row: Tensor[] = [];
    for (let left = 0; left < width; left += stride) {
      const tile = network(x.slice(2, top, top + input).slice(3, left, left + input));
      const over = above[row.length];
      if (over !== undefined) blend(over, tile, 2, overlap);
      const before = row.at(-1);
      if (before !== undefined) blend(before, tile, 3, overlap);
      row.push(tile);
    }
    rows.push(
      cat(
        row.map((tile) => tile.slice(2, 0, kept).slice(3, 0, kept)),
        3,
      ),
    );
    for (const tile of above) tile.dispose();
    above = row;
  }
  return cat(rows, 2);
}

/** Lets the start of a tile fade in over the end of the one before it. */
function blend(before: Tensor, tile: Tensor, dim: 2 | 3, overlap: number): void {
  const length = before.shape[dim] as number;
  const extent = Math.min(length, tile.shape[dim] as number, overlap);
  const ramp = (value: (share: number) => number): Tensor =>
    tensor(
      Array.from({ length: extent }, (_, i) => value(i / extent)),
      dim === 2 ? [extent, 1] : [extent],
    ).to({ dtype: tile.dtype, device: tile.device });
  const start = tile.slice(dim, 0, extent);
  const end = before.slice(dim, length - extent, length);
  start.copy_(end.mul(ramp((share) => 1 - share)).add(start.mul(ramp((share) => share))));
}
