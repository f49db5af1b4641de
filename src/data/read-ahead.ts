/** @file Loads the samples of batches ahead of their use. */

/**
 * Yields planned batches with their samples loaded. While the caller works on one, the samples of the following batches are
 * loaded. Leaving the loop early (`break`, `return()`) waits for those in flight.
 * @param load is called for each sample, in order; an error is thrown when its batch's turn comes
 * @param limits the numbers of samples, and of batches with or without samples, to be ahead; 1 or more
 */
export async function* readAhead<Sample, Planned extends { readonly samples: readonly Sample[] }, Loaded>(
  plan: Iterable<Planned>,
  load: (sample: Sample, planned: Planned) => Promise<Loaded>,
  limits: { readonly samples: number; readonly batches: number },
): AsyncGenerator<{ planned: Planned; loaded: Loaded[] }, void, void> {
  const upcoming = plan[Symbol.iterator]();
  const queue: { planned: Planned; loading: Promise<Loaded>[] }[] = [];
  let inFlight = 0;
  const startMore = () => {
    while (inFlight < limits.samples) {
      const last = queue.at(-1);
      const sample = last?.planned.samples[last.loading.length];
      if (last !== undefined && sample !== undefined) {
        const loading = load(sample, last.planned);
        // Its error is handled when its turn comes. Without this handler Node would end the process before.
        loading.catch(() => {});
        last.loading.push(loading);
        inFlight++;
      } else {
        // Batches without samples do not count as in flight, and must not be queued without end.
        if (queue.length > limits.batches) return;
        const next = upcoming.next();
        if (next.done) return;
        queue.push({ planned: next.value, loading: [] });
      }
    }
  };
  try {
    for (;;) {
      startMore();
      const batch = queue[0];
      if (batch === undefined) return;
      const { planned, loading } = batch;
      const loaded: Loaded[] = [];
      while (loaded.length < planned.samples.length) {
        startMore();
        loaded.push(await loading[loaded.length]!);
        inFlight--;
      }
      queue.shift();
      startMore();
      yield { planned, loaded };
    }
  } finally {
    await Promise.allSettled(queue.flatMap(({ loading }) => loading));
  }
}
