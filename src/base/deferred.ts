/** Work for the end of a scope, the last that was added first: `using deferred = new Deferred()`. */
export class Deferred implements Disposable {
  readonly #work: (() => void)[] = [];

  add(work: () => void): void {
    this.#work.push(work);
  }

  [Symbol.dispose](): void {
    for (const work of this.#work.splice(0).reverse()) work();
  }
}
