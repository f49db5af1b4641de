/** @file Masks as images: white where something acts, black elsewhere. */
import { uploadImage } from '../api.js';

let white: Promise<string> | undefined;

/** Returns the name of a mask that is white everywhere. */
export function whiteMask(): Promise<string> {
  if (white === undefined) {
    const canvas = canvasOf({ width: 8, height: 8 });
    const context = contextOf(canvas);
    context.fillStyle = '#fff';
    context.fillRect(0, 0, 8, 8);
    white = uploadCanvas(canvas);
    white.catch(() => {
      white = undefined;
    });
  }
  return white;
}

export interface Size {
  width: number;
  height: number;
}

export function canvasOf({ width, height }: Size): HTMLCanvasElement {
  return Object.assign(document.createElement('canvas'), { width, height });
}

export function contextOf(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  return canvas.getContext('2d', { willReadFrequently: true }) as CanvasRenderingContext2D;
}

/** Gives what a canvas shows to the playground. @returns its name there */
export async function uploadCanvas(canvas: HTMLCanvasElement): Promise<string> {
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, 'image/png'));
  if (blob === null) throw new Error('The mask could not be drawn.');
  return uploadImage(blob);
}
