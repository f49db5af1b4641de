/**
 * @file Image files with the settings that made them, in two forms: as text that web UIs read (PNG's text `parameters`, EXIF's
 * UserComment), and as JSON that this package reads (PNG's text `ip-adapter`, a property in XMP).
 */
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { ConfigError } from '../base/errors.js';
import type { RgbImage } from '../base/rgb-image.js';
import { withJpegComment, withWebpComment } from './exif.js';
import { encodePng, readPngText } from './png.js';

/** The endings of image files that can be written. */
export const writtenEndings = ['.png', '.webp', '.jpg', '.jpeg'] as const;

/** What is written beside the pixels. */
export interface FileSettings {
  /** For people and web UIs. */
  parameters: string;
  /** JSON, in ASCII. */
  settings: string;
}

const keyword = 'ip-adapter';
const namespace = 'urn:ip-adapter:1.0';
/** A segment of a JPEG, without the 29 bytes of its name. */
const MAX_JPEG_XMP = 0xffff - 2 - 29;

/**
 * Returns the file of an image, in the format of its name's ending: PNG without loss, JPEG and WebP at a quality of 95 of 100,
 * with colours at full resolution in JPEG. The same image and settings give the same bytes.
 * @throws ConfigError where the ending is another, or JPEG has no room for the settings
 */
export async function encodeImage(image: RgbImage, file: string, about?: FileSettings): Promise<Buffer> {
  const ending = (extname(file) || file).toLowerCase();
  if (ending === '.png')
    return encodePng(image, about && { parameters: about.parameters, [keyword]: about.settings });
  const { data, width, height } = image;
  const { default: sharp } = await import('sharp');
  const source = sharp(data, { raw: { width, height, channels: 3 } });
  const described = about === undefined ? source : source.withXmp(xmpOf(about.settings));
  if (ending === '.webp') {
    const webp = await described.webp({ quality: 95 }).toBuffer();
    return about === undefined ? webp : withWebpComment(webp, about.parameters);
  }
  if (ending !== '.jpg' && ending !== '.jpeg')
    throw new ConfigError(`Expected a name that ends in ${writtenEndings.join(', ')} but received ${file}`);
  if (about !== undefined && xmpOf(about.settings).length > MAX_JPEG_XMP)
    throw new ConfigError(
      `The settings of ${file} take ${about.settings.length} bytes, and a JPEG has room for 64 KB; write a PNG`,
    );
  const jpeg = await described.jpeg({ quality: 95, chromaSubsampling: '4:4:4' }).toBuffer();
  return about === undefined ? jpeg : withJpegComment(jpeg, about.parameters);
}

/** Returns the JSON that `encodeImage` has put into a file; undefined where there is none. @throws the system's error */
export async function readSettingsText(file: string): Promise<string | undefined> {
  const bytes = await readFile(file);
  const text = readPngText(bytes);
  if (text !== null) return text.get(keyword);
  const { default: sharp } = await import('sharp');
  try {
    const { xmp } = await sharp(bytes).metadata();
    return xmp && settingsIn(xmp.toString('utf8'));
  } catch {
    // No image that sharp knows.
    return undefined;
  }
}

function xmpOf(settings: string): string {
  const attribute = settings.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
  return `<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:ipAdapter="${namespace}" ipAdapter:settings="${attribute}"/></rdf:RDF></x:xmpmeta>`;
}

function settingsIn(xmp: string): string | undefined {
  const [, attribute] = /\bipAdapter:settings="([^"]*)"/.exec(xmp) ?? [];
  return attribute?.replace(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)));
}
