/** @file What a file is that cannot be read as an image, and what to do about it, as the second half of a sentence. */

/** How files of formats that are read begin. WebP is a kind of RIFF, and AVIF of what videos are in: see below. */
const READ = ['\xff\xd8\xff', '\x89PNG', 'GIF8', 'II*\0', 'II+\0', 'MM\0*', 'MM\0+'];

/** How files of other formats begin. */
const NOT_READ: readonly (readonly [name: string, ...begins: string[]])[] = [
  ['a Photoshop file', '8BPS'],
  ['a JPEG XL image', '\xff\x0a', '\0\0\0\x0cJXL '],
  ['a JPEG 2000 image', '\xff\x4f\xff\x51', '\0\0\0\x0cjP  '],
  ['an icon (ICO)', '\0\0\x01\0'],
  ['a Netpbm image', ...Array.from('1234567', (kind) => `P${kind}\n`)],
  ['an OpenEXR image', 'v/1\x01'],
  ['a Radiance HDR image', '#?RADIANCE', '#?RGBE'],
  ['a QOI image', 'qoif'],
  ['a DDS texture', 'DDS '],
  ['a PDF', '%PDF'],
  ['a video', '\x1aE\xdf\xa3'],
  [
    'an archive, or compressed',
    'PK\x03\x04',
    '\x1f\x8b',
    '7z\xbc\xaf',
    'Rar!',
    'BZh',
    '\xfd7zXZ',
    '\x28\xb5\x2f\xfd',
  ],
];

const CONVERT = 'convert it to JPEG or PNG';
const AGAIN = 'get or export it again';

/** How many bytes `faultOf` looks at. */
export const FAULT_BYTES = 1024;

/** @param head the first `FAULT_BYTES` bytes of a file that the decoder refused, or all of a shorter one */
export function faultOf(head: Uint8Array): string {
  if (head.length === 0) return `it is empty (0 bytes): ${AGAIN}`;
  if (head.every((byte) => byte === 0)) return `it holds nothing but zeros: ${AGAIN}`;
  const begin = Buffer.from(head.buffer, head.byteOffset, head.length).toString('latin1');
  const text = begin.replace(/^\xef\xbb\xbf/, '').trimStart();
  if (text.startsWith('version https://git-lfs.github.com/'))
    return 'it is a Git LFS pointer, which stands for the file: run git lfs pull';
  if (/^\S*\/annex\/objects\//.test(text))
    return 'it is a git-annex pointer, which stands for the file: run git annex get';
  if (/^<(?:!doctype html|html|head|body)\b/i.test(text))
    return 'it is a web page (HTML), as a server answers in place of a file: download it again';
  if (text.startsWith('<') && text.includes('<svg')) return `it is an SVG drawing: ${CONVERT}`;
  if (text.startsWith('<?xml') || /^<(?:error|message)\b/i.test(text))
    return 'it is XML, as a server answers in place of a file: download it again';
  if (begin.slice(4, 8) === 'ftyp') return mediaFault(begin);
  const kind = begin.slice(8, 12);
  const isRead = READ.some((mark) => begin.startsWith(mark)) || (begin.startsWith('RIFF') && kind === 'WEBP');
  if (isRead) return `it is damaged or incomplete: ${AGAIN}`;
  const isBmp = begin.startsWith('BM') && begin.slice(6, 10) === '\0\0\0\0';
  const [name] = isBmp
    ? ['a BMP image']
    : (NOT_READ.find(([, ...marks]) => marks.some((mark) => begin.startsWith(mark))) ?? []);
  if (name !== undefined) return `it is ${name}, which is not read: ${CONVERT}`;
  return 'it is not a JPEG, PNG, WebP, GIF, TIFF or AVIF file';
}

/** ISO base media files (ISO/IEC 14496-12, "File Type Box") say by their brands whether they are AVIF, HEIC or a video. */
function mediaFault(begin: string): string {
  const length = Math.min(begin.charCodeAt(2) * 256 + begin.charCodeAt(3), begin.length);
  const brands = begin.slice(8, Math.max(length, 12));
  if (/avi[fs]/.test(brands)) return `it is damaged or incomplete: ${AGAIN}`;
  if (/hei[cxms]|hev[cxms]|mif1|msf1/.test(brands))
    return `it is a HEIC image, which is not read: ${CONVERT}`;
  if (brands.startsWith('crx ')) return `it is a camera's raw image, which is not read: ${CONVERT}`;
  return 'it is a video: take its frames out as images';
}
