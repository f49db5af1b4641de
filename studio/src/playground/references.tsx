/** @file The reference images of an adapter, each with the region where it acts. */
import { useId, useState } from 'preact/hooks';
import { ApiImage } from '../parts.js';
import type { Reference } from './form.js';
import { DropZone, galleryPath, uploadFiles } from './gallery-image.js';
import { type Background, MaskEditor } from './mask-editor.js';
import type { Size } from './mask-image.js';

/** The longer side of a mask, in pixels; it is resized to each layer. */
const SIDE = 512;

/** What the masks of references cover: what is generated. */
export interface Output {
  /** Width by height. */
  aspect: number;
  backgrounds: readonly Background[];
}

export function References({
  label,
  references,
  output: { aspect, backgrounds },
  onChange,
  onError,
}: {
  label: string;
  references: readonly Reference[];
  output: Output;
  onChange: (references: Reference[]) => void;
  onError: (error: unknown) => void;
}) {
  const id = useId();
  const [masked, setMasked] = useState<number>();
  const add = (names: readonly string[]): void =>
    onChange([...references, ...names.map((name) => ({ name }))]);
  const size: Size = {
    width: Math.round(aspect >= 1 ? SIDE : SIDE * aspect),
    height: Math.round(aspect >= 1 ? SIDE / aspect : SIDE),
  };
  return (
    <DropZone label={label} onImages={add} onError={onError}>
      <ul>
        {references.map((reference, i) => (
          <li key={`${i} ${reference.name}`}>
            <ApiImage class="reference" path={galleryPath(reference.name, 192)} alt={`Reference ${i + 1}`} />
            {reference.mask !== undefined && (
              <ApiImage
                class="mask"
                path={galleryPath(reference.mask, 64)}
                alt={`Mask of reference ${i + 1}`}
              />
            )}
            <div>
              <button type="button" onClick={() => setMasked(i)} aria-label={`Mask of reference ${i + 1}`}>
                Mask
              </button>
              <button
                type="button"
                aria-label={`Remove reference ${i + 1}`}
                onClick={() => onChange(references.toSpliced(i, 1))}
              >
                ×
              </button>
            </div>
          </li>
        ))}
      </ul>
      <input
        id={id}
        class="hidden"
        type="file"
        accept="image/*"
        multiple
        onChange={({ currentTarget }) => {
          void uploadFiles(currentTarget.files ?? [])
            .then(add)
            .catch(onError)
            .finally(() => {
              currentTarget.value = '';
            });
        }}
      />
      <label class="button" for={id}>
        {references.length === 0 ? 'Drop, paste or choose reference images' : 'Add'}
      </label>
      {masked !== undefined && references[masked] !== undefined && (
        <MaskEditor
          size={size}
          title={`Where reference ${masked + 1} acts`}
          hint="Paint where it acts in what is generated."
          withoutMask="Everywhere"
          mask={references[masked].mask}
          backgrounds={backgrounds}
          takesBackground
          onDone={(mask) => {
            const { name } = references[masked] as Reference;
            onChange(references.with(masked, mask === undefined ? { name } : { name, mask }));
            setMasked(undefined);
          }}
          onCancel={() => setMasked(undefined)}
          onError={onError}
        />
      )}
    </DropZone>
  );
}
