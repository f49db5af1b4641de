/**
 * @file Byte-pair encoding of a word from its left end, so that the first tokens of a word of a million letters are known
 * after some hundred.
 *
 * A word's encoding is the one sequence in which each token may follow the one before it: encoded alone, the two stay as
 * they are. So the last token of every prefix follows from those of shorter prefixes; and once all ways that can still be
 * gone begin with the same tokens, what follows cannot change these (the method of github/rust-gems, crate `bpe`).
 */

/** The parts of a `tokenizer.json`'s model that are used. */
export interface BytePairModel {
  readonly merges: readonly (readonly [string, string])[];
  /** Marks the end of a word, on its last letter. */
  readonly endOfWord: string;
}

interface Merged {
  /** The lower is merged first. */
  readonly order: number;
  readonly left: string;
  readonly right: string;
}

export class BytePairs {
  readonly #merged = new Map<string, Merged>();
  readonly #orders = new Map<string, number>();
  readonly #letters = new Map<string, number>();
  readonly #sound = new Map<string, boolean>();
  readonly #endOfWord: string;
  /** Of the longest token, in letters. */
  #longest = 1;
  /** Whether each token comes from one merge only: otherwise a token alone does not tell how it came about. */
  readonly #isUnique: boolean;

  constructor({ merges, endOfWord }: BytePairModel) {
    this.#endOfWord = endOfWord;
    for (const [order, [left, right]] of merges.entries()) {
      const token = left + right;
      this.#merged.set(token, { order, left, right });
      this.#orders.set(pairOf(left, right), order);
      const letters = token.length - (token.endsWith(endOfWord) ? endOfWord.length : 0);
      this.#longest = Math.max(this.#longest, letters);
    }
    this.#isUnique = this.#merged.size === merges.length;
  }

  /**
   * Returns the first tokens of a word, `limit` or more of them unless it has fewer. Null where merges contradict each
   * other, so that the encoding does not follow from pairs of tokens; and where it depends on more of the word.
   * @param word the word's letters, of one UTF-16 unit each; or so many of them that its end is not near
   * @param isWhole whether the word ends there
   */
  first(word: string, limit: number, isWhole: boolean): string[] | null {
    if (!this.#isUnique) return null;
    const wordEnd = isWhole ? word.length : -1;
    // By the end of a prefix of the word: its last token, how many it has, and where the first `limit` of them end.
    const last: string[] = [''];
    const counts = [0];
    const limits = [-1];
    /** How many prefixes, up to here, have their first `limit` tokens in common. */
    let alike = 0;
    for (let end = 1; end <= word.length; end++) {
      const token = this.#lastToken(word, end, end === wordEnd, last);
      if (token === null) return null;
      const before = end - this.#lettersOf(token, end === wordEnd);
      const count = (counts[before] as number) + 1;
      last.push(token);
      counts.push(count);
      limits.push(count > limit ? (limits[before] as number) : count === limit ? end : -1);
      alike = limits[end] !== -1 && limits[end] === limits[end - 1] ? alike + 1 : 1;
      // Every token that is still to come begins behind one of these prefixes.
      const isKnown = alike >= this.#longest && limits[end] !== -1;
      if (isKnown || end === wordEnd) {
        const tokens: string[] = [];
        for (let at = isKnown ? (limits[end] as number) : end; at > 0; ) {
          tokens.push(last[at] as string);
          at -= this.#lettersOf(last[at] as string, at === wordEnd);
        }
        return tokens.reverse();
      }
    }
    return null;
  }

  #lettersOf(token: string, isAtEnd: boolean): number {
    return token.length - (isAtEnd ? this.#endOfWord.length : 0);
  }

  /** The last token of a prefix; null where there is none that can be trusted. */
  #lastToken(word: string, end: number, isAtEnd: boolean, last: readonly string[]): string | null {
    const suffix = isAtEnd ? this.#endOfWord : '';
    for (let length = Math.min(this.#longest, end); length > 0; length--) {
      const token = word.slice(end - length, end) + suffix;
      if (length > 1 && !this.#merged.has(token)) continue;
      if (!this.#isSound(token)) return null;
      if (length === end || this.#mayFollow(last[end - length] as string, token)) return token;
    }
    return null;
  }

  /** Whether a token alone is encoded as itself. */
  #isSound(token: string): boolean {
    const known = this.#sound.get(token);
    if (known !== undefined) return known;
    const merged = this.#merged.get(token);
    const isSound =
      merged === undefined ||
      (this.#orderOf(merged.left) < merged.order &&
        this.#orderOf(merged.right) < merged.order &&
        this.#isSound(merged.left) &&
        this.#isSound(merged.right) &&
        this.#mayFollow(merged.left, merged.right, merged.order));
    this.#sound.set(token, isSound);
    return isSound;
  }

  /** Whether two tokens stay as they are side by side: no merge over their border comes before those that made them. */
  #mayFollow(first: string, second: string, before = Number.POSITIVE_INFINITY): boolean {
    let [left, right, limit] = [first, second, before];
    for (;;) {
      const order = this.#orders.get(pairOf(left, right));
      if (order !== undefined && order < limit) return false;
      // Take back the later of the two merges; of equal pairs, the left one is merged first.
      const [parts, others] = [this.#merged.get(left), this.#merged.get(right)];
      if (parts === undefined && others === undefined) return true;
      if (this.#orderOf(left) > this.#orderOf(right)) {
        limit = (parts as Merged).order;
        left = (parts as Merged).right;
      } else {
        limit = (others as Merged).order + 1;
        right = (others as Merged).left;
      }
    }
  }

  /** Letters come before all merges. */
  #orderOf(token: string): number {
    const merged = this.#merged.get(token);
    if (merged !== undefined) return merged.order;
    const known = this.#letters.get(token) ?? -1 - this.#letters.size;
    this.#letters.set(token, known);
    return known;
  }
}

function pairOf(left: string, right: string): string {
  return `${left}\0${right}`;
}
