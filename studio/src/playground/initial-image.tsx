/** @file The image to start from, with the part of it that becomes new. */
import { useState } from 'preact/hooks';
import { ApiImage } from '../parts.js';
import { Fault } from './fields.js';
import type { FormState } from './form.js';
import { galleryPath, ImageSlot } from './gallery-image.js';
import { MaskEditor } from './mask-editor.js';
import type { Size } from './mask-image.js';

/** The longer side of a mask, in pixels. */
const MAX_SIDE = 2048;

export function InitialImage({
  state: { initImage, maskImage, strength },
  size,
  errors,
  onChange,
  onError,
}: {
  state: FormState;
  /** Of what is generated, when it is known. */
  size: Size | undefined;
  errors: Readonly<Record<string, string>>;
  onChange: (change: Partial<FormState>) => void;
  onError: (error: unknown) => void;
}) {
  const [isPainting, setPainting] = useState(false);
  // As `generate` does without the option.
  const shownStrength = strength ?? (maskImage === undefined ? 0.8 : 1);
  const scale = Math.min(1, MAX_SIDE / Math.max(size?.width ?? 1, size?.height ?? 1));
  return (
    <details open={initImage !== undefined || errors.initImage !== undefined}>
      <summary>Start from an image</summary>
      <ImageSlot
        label="Initial image"
        image={initImage}
        // A mask belongs to its image.
        onImage={(name) => onChange({ initImage: name, maskImage: undefined })}
        onError={onError}
      >
        {maskImage !== undefined && (
          <ApiImage class="mask" path={galleryPath(maskImage, 64)} alt="Mask of the initial image" />
        )}
        <button type="button" disabled={size === undefined} onClick={() => setPainting(true)}>
          {maskImage === undefined ? 'Paint a mask' : 'Change the mask'}
        </button>
      </ImageSlot>
      <Fault text={errors.initImage} />
      <Fault text={errors.maskImage} />
      {initImage !== undefined && (
        <label class="slider">
          <span>Change {shownStrength.toFixed(2)}</span>
          <input
            type="range"
            min={0.05}
            max={1}
            step={0.05}
            value={shownStrength}
            onInput={(event) => onChange({ strength: event.currentTarget.valueAsNumber })}
          />
        </label>
      )}
      <Fault text={errors.strength} />
      {isPainting && size !== undefined && initImage !== undefined && (
        <MaskEditor
          size={{ width: Math.round(size.width * scale), height: Math.round(size.height * scale) }}
          title="What becomes new"
          hint="Paint over what is to be generated anew; the rest of the image stays."
          withoutMask="No mask"
          mask={maskImage}
          backgrounds={[{ title: 'the initial image', image: initImage }]}
          onDone={(mask) => {
            onChange({ maskImage: mask });
            setPainting(false);
          }}
          onCancel={() => setPainting(false)}
          onError={onError}
        />
      )}
    </details>
  );
}
