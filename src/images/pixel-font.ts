/**
 * @file A font of 5 × 7 pixels for labels in images: a server may have no fonts, and then sharp draws none. ASCII only;
 * every other character is a box.
 */
import type { RgbImage } from '../base/rgb-image.js';

const [columns, rows] = [5, 7];
/** A glyph with the space after it. */
const advance = columns + 1;
/** Height of a line of text with the space around it, in pixels of the font. */
export const lineHeight = rows + 4;
const firstCode = ' '.charCodeAt(0);
const box = 'vhhhhhv';

/** Each glyph from space to ~: a digit of base 32 for each row from the top, whose five bits are its pixels. */
const glyphs = (
  '0000000 4444404 aa00000 aavavaa 4fke5u4 op248j3 cik8lid 4400000 2488842 8422248 04lel40 044v440 0000448 000v000 ' +
  '00000cc 01248g0 ehjlphe 4c4444e eh1248v v2421he 26aiv22 vgu11he 68guhhe v124888 ehhehhe ehhf12c 0cc0cc0 0cc0c48 ' +
  '248g842 00v0v00 8421248 eh12404 eh1dlle ehhvhhh uhhuhhu ehggghe sihhhis vgguggv vgguggg ehgnhhf hhhvhhh e44444e ' +
  '72222ic hikokih ggggggv hrllhhh hhpljhh ehhhhhe uhhuggg ehhhlid uhhukih fgge11u v444444 hhhhhhe hhhhha4 hhhllla ' +
  'hha4ahh hhha444 v1248gv e88888e 0g84210 e22222e 4ah0000 000000v 8420000 00e1fhf ggmphhu 00egghe 11djhhf 00ehvge ' +
  '698s888 0fhhf1e ggmphhh 40c444e 20622ic ggikoki c44444e 00qllhh 00mphhh 00ehhhe 00uhugg 00djf11 00mpggg 00ege1u ' +
  '88s8896 00hhhjd 00hhha4 00hhlla 00ha4ah 00hhf1e 00v248v 2448442 4444444 8442448 008l200'
).split(' ');

/** Returns how much of a text fits into a width; of a longer one the end is `...`. */
export function fitText(text: string, width: number, scale: number): string {
  const room = Math.floor(width / (advance * scale));
  const characters = [...text.replace(/\s+/g, ' ')];
  return characters.length <= room
    ? characters.join('')
    : `${characters.slice(0, Math.max(0, room - 3)).join('')}...`;
}

/** Writes a line of black text into an image; what is outside the image is not drawn. `scale` is the size of a font pixel. */
export function drawText(image: RgbImage, text: string, left: number, top: number, scale: number): void {
  for (const [i, character] of [...text].entries()) {
    const glyph = glyphs[(character.codePointAt(0) as number) - firstCode] ?? box;
    for (let y = 0; y < rows * scale; y++) {
      const bits = Number.parseInt(glyph[Math.floor(y / scale)] as string, 32);
      for (let x = 0; x < columns * scale; x++) {
        const isInk = (bits >> (columns - 1 - Math.floor(x / scale))) & 1;
        const [column, row] = [left + i * advance * scale + x, top + y];
        if (!isInk || column >= image.width || row >= image.height) continue;
        image.data.fill(0, (row * image.width + column) * 3, (row * image.width + column + 1) * 3);
      }
    }
  }
}
