/** @file Settings that an image's file has restored and the form has no field for. */

export function Kept({ settings, onRemove }: { settings: object | undefined; onRemove: () => void }) {
  if (settings === undefined) return null;
  const shown = Object.entries(settings).map(
    ([name, value]) => `${name} ${Array.isArray(value) ? value.join(', ') : value}`,
  );
  return (
    <p class="row hint">
      <span>From the file: {shown.join('; ')}</span>
      <button type="button" onClick={onRemove}>
        Leave out
      </button>
    </p>
  );
}
