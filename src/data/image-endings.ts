/** @file Which files are images, by their names. What is in them shows when they are read. */

/** Whether a file's name ends as those of images do that are read. */
export function isImage(name: string): boolean {
  return isUsualImage(name) || /\.(?:jpe|jfif|gif|tiff?|avif)$/i.test(name);
}

/** Whether its ending is one of those that a dataset's images usually have: beside these, others are not images. */
export function isUsualImage(name: string): boolean {
  return /\.(?:jpe?g|png|webp)$/i.test(name);
}

/** For messages. */
export const IMAGE_ENDINGS = '.jpg, .jpeg, .jpe, .jfif, .png, .webp, .gif, .tif, .tiff, .avif';
