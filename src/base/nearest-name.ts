/** @file The name that someone meant who wrote another. */

/** Names that differ in more of their letters than this are not taken for each other. */
const farthest = 0.4;

/** The candidate that is spelt most like `name`; case, hyphens and underscores do not count. Undefined where none is near. */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  const written = letters(name);
  let nearest: string | undefined;
  let least = farthest;
  for (const candidate of candidates) {
    const other = letters(candidate);
    const difference = editDistance(written, other) / Math.max(written.length, other.length);
    if (difference > least || (difference === least && nearest !== undefined)) continue;
    nearest = candidate;
    least = difference;
  }
  return nearest;
}

function letters(name: string): string {
  return name.replace(/[-_]/g, '').toLowerCase();
}

/** Letters put in, left out or replaced to come from one to the other (Levenshtein). */
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
