/** A list that keeps the last ones, numbers them and tells its listeners. Latencies and log lines are kept in such. */

export type Numbered<Item> = Item & { readonly number: number };

export class Bounded<Item extends object> {
  private list: readonly Numbered<Item>[] = [];
  private taken = 0;
  private readonly listeners = new Set<() => void>();

  constructor(private readonly limit: number) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** What is kept, the oldest first; the same list until something is added. */
  readonly get = (): readonly Numbered<Item>[] => this.list;

  /** Adds some; the oldest beyond the limit go. */
  add(...items: readonly Item[]): void {
    if (items.length === 0) return;
    const added = items.map((item) => ({ ...item, number: ++this.taken }));
    this.list = [...this.list, ...added].slice(-this.limit);
    for (const listener of this.listeners) listener();
  }
}
