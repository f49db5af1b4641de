/** @file Recognizes images by the extensions of their names. Their content is checked when they are read. */

/** Returns whether a file has the extension of a supported image format. */
export function isImage(name: string): boolean {
  return isUsualImage(name) || /\.(?:jpe|jfif|gif|tiff?|avif)$/i.test(name);
}

/** Returns whether a file has one of the usual extensions of images in datasets, which take precedence over others. */
export function isUsualImage(name: string): boolean {
  return /\.(?:jpe?g|png|webp)$/i.test(name);
}

/** The supported extensions, for messages. */
export const IMAGE_ENDINGS = '.jpg, .jpeg, .jpe, .jfif, .png, .webp, .gif, .tif, .tiff, .avif';
