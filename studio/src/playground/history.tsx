/** @file The images that were generated, newest first. They can be dragged onto references. */
import type { GalleryImage } from '../../../src/studio/gallery.js';
import { ApiImage } from '../parts.js';
import { galleryPath, galleryType } from './gallery-image.js';

export function History({
  images,
  shown,
  onShow,
}: {
  images: readonly GalleryImage[];
  shown: string | undefined;
  onShow: (name: string) => void;
}) {
  if (images.length === 0) return null;
  return (
    <section class="history" aria-label="History">
      <h2>History</h2>
      <ul>
        {images.map(({ name, form }) => (
          <li key={name}>
            <button
              type="button"
              class="tile"
              aria-pressed={name === shown}
              aria-label={`Image with seed ${form?.seed ?? 'unknown'}: ${form?.prompt || 'no text'}`}
              title={form?.prompt}
              draggable
              onDragStart={(event) => event.dataTransfer?.setData(galleryType, name)}
              onClick={() => onShow(name)}
            >
              <ApiImage path={galleryPath(name, 192)} alt="" />
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
