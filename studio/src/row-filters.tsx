/** @file Which rows of a dataset are shown, and with what of them. */
import { type RowFilter, rowFilters } from '../../src/studio/dataset-messages.js';
import type { DatasetView } from './dataset-rows.js';

const ofGroups: readonly RowFilter[] = ['grouped', 'alone in its group'];
const ofChecks: readonly RowFilter[] = ['cannot be read', 'same image'];

export function RowFilters({
  view: { masks, groupBy, filter },
  hasCheck,
  isChecking,
  onChange,
  onCheck,
}: {
  view: DatasetView;
  hasCheck: boolean;
  isChecking: boolean;
  onChange: (part: Partial<DatasetView>) => void;
  onCheck: () => void;
}) {
  const isPossible = (one: RowFilter): boolean =>
    (one !== 'no mask' || masks) &&
    (!ofGroups.includes(one) || groupBy !== '') &&
    (!ofChecks.includes(one) || hasCheck);
  /** A filter that needs what is taken away goes with it. */
  const without = (filters: readonly RowFilter[]): Partial<DatasetView> =>
    filters.includes(filter) ? { filter: 'all' } : {};
  return (
    <div class="tools row-filters">
      <select
        aria-label="Show"
        value={filter}
        onChange={(event) => onChange({ filter: event.currentTarget.value as RowFilter })}
      >
        {rowFilters.filter(isPossible).map((one) => (
          <option key={one} value={one}>
            {titles[one] ?? one}
          </option>
        ))}
      </select>
      <input
        type="search"
        placeholder="Find in captions and names"
        aria-label="Find in captions and names"
        onChange={(event) => onChange({ text: event.currentTarget.value })}
      />
      <label class="group-by">
        Group by
        <input
          value={groupBy}
          list="group-by"
          placeholder="none"
          onChange={({ currentTarget: { value } }) =>
            onChange({ groupBy: value.trim(), ...(value.trim() === '' ? without(ofGroups) : {}) })
          }
        />
        <datalist id="group-by">
          <option value="folder" />
          <option value="prefix" />
        </datalist>
      </label>
      <label class="check-box">
        <input
          type="checkbox"
          checked={masks}
          onChange={({ currentTarget: { checked } }) =>
            onChange({ masks: checked, ...without([...ofChecks, ...(checked ? [] : ['no mask' as const])]) })
          }
        />
        Masks
      </label>
      <button type="button" disabled={isChecking} onClick={onCheck}>
        Check every image
      </button>
    </div>
  );
}

const titles: Readonly<Partial<Record<RowFilter, string>>> = {
  all: 'every row',
  'same caption': 'caption of another row',
  'same file': 'file of another row',
  grouped: 'in a group',
  'cannot be read': 'image cannot be read',
  'same image': 'image of another row',
};
