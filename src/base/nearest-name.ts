/** @file Suggests the name that a misspelt name was meant to be. */

/** The largest share of letters in which a suggestion may differ. */
const maxDifference = 0.4;

/** Returns the candidate spelt most like `name`, ignoring case, hyphens and underscores; undefined where none is close. */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  const written = letters(name);
  let nearest: string | undefined;
  let smallest = maxDifference;
  for (const candidate of candidates) {
    const other = letters(candidate);
    const difference = editDistance(written, other) / Math.max(written.length, other.length);
    if (difference > smallest || (difference === smallest && nearest !== undefined)) continue;
    nearest = candidate;
    smallest = difference;
  }
  return nearest;
}

function letters(name: string): string {
  return name.replace(/[-_]/g, '').toLowerCase();
}

/** Returns the Levenshtein distance: the number of letters to insert, delete or replace. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries())
      next.push(
        Math.min(
          (row[j] as number) + (letter === other ? 0 : 1),
          (row[j + 1] as number) + 1,
          (next[j] as number) + 1,
        ),
      );
    row = next;
  }
  return row[b.length] as number;
}
