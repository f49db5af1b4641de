/** @file Rotates images about their centre. */
import type { RgbImage } from '../base/rgb-image.js';

/**
 * Returns an image of the same size, turned anticlockwise, with bilinear interpolation (torchvision
 * `transforms/_functional_tensor.py`, `rotate`). What comes in from outside is mirrored at the edges, as `padding_mode="reflection"`
 * of PyTorch's `grid_sample`: black corners would tell the angle.
 */
export function rotate({ data, width, height }: RgbImage, degrees: number): RgbImage {
  const angle = (degrees * Math.PI) / 180;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const rotated = new Uint8Array(data.length);
  const [centreX, centreY] = [(width - 1) / 2, (height - 1) / 2];
  for (let y = 0, to = 0; y < height; y++)
    for (let x = 0; x < width; x++, to += 3) {
      const [dx, dy] = [x - centreX, y - centreY];
      const fromX = reflected(centreX + cos * dx - sin * dy, width);
      const fromY = reflected(centreY + sin * dx + cos * dy, height);
      const [left, top] = [Math.floor(fromX), Math.floor(fromY)];
      const [right, bottom] = [Math.min(left + 1, width - 1), Math.min(top + 1, height - 1)];
      const [shareX, shareY] = [fromX - left, fromY - top];
      for (let c = 0; c < 3; c++) {
        const at = (column: number, row: number): number => data[3 * (row * width + column) + c]!;
        const above = at(left, top) + shareX * (at(right, top) - at(left, top));
        const below = at(left, bottom) + shareX * (at(right, bottom) - at(left, bottom));
        rotated[to + c] = Math.round(above + shareY * (below - above));
      }
    }
  return { data: rotated, width, height };
}

/** Returns a coordinate mirrored into 0 … size - 1 at the outer edges of the first and last pixel. */
function reflected(at: number, size: number): number {
  const turn = (((at + 0.5) % (2 * size)) + 2 * size) % (2 * size);
  const inside = turn < size ? turn : 2 * size - turn;
  return Math.max(0, Math.min(size - 1, inside - 0.5));
}
