import type { Entry, Page } from "../generated/log-viewer.ts";
import { fetchStreamError, get, query } from "../shared/api.ts";
import type { Filters } from "./filters.ts";

/** Entries per request. */
const PAGE_SIZE = 200;
/** Number of entries of the base that are also in the head. */
const HEAD_ENTRIES = 1;
/** Pages kept in memory, so that memory use stays constant while the user scrolls. */
const PAGES_MAX = 30;
/** Above this number of entries, the head is truncated to one page. */
const HEAD_MAX = 2_000;
/** Pending entries kept in memory. Further entries are only counted. */
const PENDING_MAX = 2_000;
/** Changes within this time are rendered together. */
const RENDER_DELAY_MS = 100;
/** Delay before the feed opens a rejected live tail again. */
export const TAIL_RETRY_MS = 15_000;

/** The same delay if another request shows that the tail is available again. */
const TAIL_RETRY_SOON_MS = 1_000;

/** State of the live tail. `off` if the filters set the end of the period. */
export type TailState = "off" | "connecting" | "live" | "rejected";

/** The last entry of the head, which is the first one of the base. */
interface Base {
  maxId: number;
}

/**
 * All log entries that match the filters, newest first, loaded on demand. The head contains the first page and the
 * entries of the live tail. The base behind it is loaded by pages up to a fixed ID, so that new entries do not shift the
 * offsets of its pages.
 */
export class LogFeed {
  #head: Entry[] = [];
  /** Number of entries behind the head. */
  #baseCount = 0;
  /** `undefined` until the first page of the base is needed. */
  #base: Base | undefined;
  #pages = new Map<number, Entry[]>();
  /** Numbers of the pages that are being loaded. */
  #loading = new Set<number>();
  /** New entries that are not shown yet because the feed is paused, newest first. */
  #pending: Entry[] = [];
  #knownIds = new Set<number>();
  #pendingCount = 0;
  #source: EventSource | undefined;
  #renderTimer: ReturnType<typeof setTimeout> | undefined;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #abort = new AbortController();

  /** Whether the first page has arrived. */
  isReady = false;
  searchMode: Page["search_mode"];
  isPartial = false;
  error: Error | undefined;
  tail: TailState = "off";
  /** Error of the rejected live tail; `undefined` once it is live again. */
  tailError: Error | undefined;
  /** While true, new entries stay pending, so that the list does not move while the user reads. */
  isPaused = false;
  /** Incremented when the indexes of entries change arbitrarily. */
  generation = 0;

  constructor(
    readonly filters: Filters,
    /** Called after every change that affects rendering. */
    readonly onChange: () => void,
  ) {}

  async open(): Promise<void> {
    try {
      const page = await this.#fetchPage({ limit: PAGE_SIZE });
      this.isReady = true;
      this.searchMode = page.search_mode;
      this.isPartial = page.partial ?? false;
      this.#reset(page.logs, page.total);
      this.#openTail();
    } catch (error) {
      this.#setError(error as Error);
    }
    this.#scheduleRender();
  }

  close(): void {
    this.#abort.abort();
    this.#source?.close();
    clearTimeout(this.#renderTimer);
    clearTimeout(this.#retryTimer);
  }

  get count(): number {
    return this.#head.length + this.#baseCount;
  }

  /** Number of entries in the head. Only the head grows and shrinks; the base behind it does not move. */
  get headCount(): number {
    return this.#head.length;
  }

  /** Number of new entries that are not shown yet. */
  get pendingCount(): number {
    return this.#pendingCount;
  }

  /** Returns the entry at an index, or `undefined` if it is not loaded. */
  at(index: number): Entry | undefined {
    const baseIndex = index - this.#head.length;
    if (baseIndex < 0) {
      return this.#head[index];
    }
    const offset = baseIndex + HEAD_ENTRIES;
    return this.#base && this.#pages.get(Math.floor(offset / PAGE_SIZE))?.[offset % PAGE_SIZE];
  }

  /** Loads the missing pages between two indexes. Does nothing while pages are being loaded. */
  async loadRange(first: number, last: number): Promise<void> {
    const [from, to] = [Math.max(first, this.#head.length), Math.min(last, this.count - 1)];
    if (from > to || this.#loading.size > 0) {
      return;
    }
    try {
      const oldest = this.#head.at(-1);
      this.#base ??= oldest && { maxId: oldest.id };
      const base = this.#base;
      const pageOf = (index: number): number => Math.floor((index - this.#head.length + HEAD_ENTRIES) / PAGE_SIZE);
      for (let number = pageOf(from); base && number <= pageOf(to); number++) {
        await this.#loadPage(base, number);
      }
    } catch (error) {
      this.#setError(error as Error);
      this.#scheduleRender();
    }
  }

  /** Clears the error and continues. */
  retry(): void {
    this.error = undefined;
    if (this.isReady) {
      this.onChange();
    } else {
      void this.open();
    }
  }

  /** Shows the pending entries. */
  showPending(): void {
    if (this.#pendingCount > this.#pending.length) {
      // Some of them are not in memory.
      this.#closeTail();
      void this.open();
      return;
    }
    const pending = this.#pending;
    this.#pending = [];
    this.#pendingCount = 0;
    this.#prepend(pending);
    this.onChange();
  }

  /** Opens a rejected live tail again. */
  retryTail(): void {
    clearTimeout(this.#retryTimer);
    this.#openTail();
    this.onChange();
  }

  #fetchPage(parameters: Record<string, string | number>): Promise<Page> {
    return get<Page>(`api/logs${query({ ...this.filters, ...parameters })}`, this.#abort.signal);
  }

  #setError(error: Error): void {
    if (!this.#abort.signal.aborted) {
      this.error = error;
    }
  }

  #scheduleRender(): void {
    this.#renderTimer ??= setTimeout(() => {
      this.#renderTimer = undefined;
      if (!this.isPaused && this.#pendingCount > 0) {
        this.showPending();
      } else {
        this.onChange();
      }
    }, RENDER_DELAY_MS);
  }

  /** Replaces all entries with a new head. `total` includes the entries of the head. */
  #reset(head: Entry[], total: number): void {
    this.error = undefined;
    this.generation += 1;
    this.#head = head;
    this.#knownIds = new Set(head.map(({ id }) => id));
    this.#baseCount = Math.max(0, total - head.length);
    this.#base = undefined;
    this.#pages.clear();
    this.#loading.clear();
  }

  #closeTail(): void {
    this.#source?.close();
    clearTimeout(this.#retryTimer);
    this.#pending = [];
    this.#pendingCount = 0;
  }

  async #loadPage(base: Base, number: number): Promise<void> {
    if (this.#pages.has(number) || this.#loading.has(number)) {
      return;
    }
    this.#loading.add(number);
    try {
      const page = await this.#fetchPage({ max_id: base.maxId, limit: PAGE_SIZE, offset: number * PAGE_SIZE });
      this.#storePage(number, page, base);
    } finally {
      this.#loading.delete(number);
    }
  }

  #storePage(number: number, page: Page, base: Base): void {
    // Ignores a response that was requested before a reset.
    if (base !== this.#base) {
      return;
    }
    this.#pages.delete(number);
    this.#pages.set(number, page.logs);
    const oldest = this.#pages.keys().next().value;
    if (this.#pages.size > PAGES_MAX && oldest !== undefined) {
      this.#pages.delete(oldest);
    }
    this.isPartial ||= page.partial ?? false;
    // The count can change: retention deletes the oldest entries, and a search that times out counts only a part.
    const end = page.logs.length < PAGE_SIZE ? number * PAGE_SIZE + page.logs.length : page.total;
    this.#baseCount = Math.max(0, end - HEAD_ENTRIES);
    this.#scheduleRender();
  }

  /** Opens the live tail, unless the filters set the end of the period. */
  #openTail(): void {
    if (this.filters.until || this.#abort.signal.aborted) {
      return;
    }
    this.tail = "connecting";
    const { since: _, ...filters } = this.filters;
    const path = `api/logs/tail${query(filters)}`;
    const source = new EventSource(path);
    this.#source = source;
    source.addEventListener("open", () => {
      this.tail = "live";
      this.tailError = undefined;
      void this.#catchUp();
    });
    source.addEventListener("log", (event) => this.#receive([JSON.parse(event.data)]));
    source.addEventListener("error", () => {
      const isRejected = source.readyState === EventSource.CLOSED;
      this.tail = isRejected ? "rejected" : "connecting";
      if (isRejected) {
        clearTimeout(this.#retryTimer);
        this.#retryTimer = setTimeout(() => this.retryTail(), TAIL_RETRY_MS);
        void fetchStreamError(path, this.#abort.signal).then((error) => {
          this.tailError = error;
          if (!error) {
            clearTimeout(this.#retryTimer);
            this.#retryTimer = setTimeout(() => this.retryTail(), TAIL_RETRY_SOON_MS);
          }
          this.#scheduleRender();
        });
        void this.#catchUp();
      }
      this.#scheduleRender();
    });
  }

  /** Loads the entries that were stored before the tail was opened. */
  async #catchUp(): Promise<void> {
    const newest = this.#pending[0] ?? this.#head[0];
    const since = newest && new Date(Date.parse(newest.timestamp)).toISOString();
    try {
      const page = await this.#fetchPage({ ...(since ? { since } : {}), limit: PAGE_SIZE });
      this.#receive(page.logs);
      if (page.total > page.logs.length && page.logs.every(({ id }) => id !== newest?.id)) {
        // Entries between this page and the newest known one are missing. A count above the number of pending entries
        // makes `showPending` load everything again.
        this.#pendingCount = Math.max(this.#pendingCount, page.total);
      }
    } catch (error) {
      this.#setError(error as Error);
    }
    this.#scheduleRender();
  }

  #receive(entries: Entry[]): void {
    const unknown = entries.filter(({ id }) => !this.#knownIds.has(id));
    this.#pendingCount += unknown.length;
    for (const entry of unknown) {
      if (this.#pending.length < PENDING_MAX) {
        this.#knownIds.add(entry.id);
        this.#pending.push(entry);
      }
    }
    this.#pending.sort((a, b) => b.id - a.id);
    this.#scheduleRender();
  }

  #prepend(entries: Entry[]): void {
    const oldest = this.#head.at(-1);
    const isBehindHead = ({ id }: Entry): boolean => this.#baseCount > 0 && oldest !== undefined && id < oldest.id;
    this.#head = [...entries.filter((entry) => !isBehindHead(entry)), ...this.#head].sort((a, b) => b.id - a.id);
    const lateCount = entries.filter(isBehindHead).length;
    if (lateCount > 0) {
      // Entries that arrived late are on a page of the base. The pages are loaded again, because their offsets change.
      this.#baseCount += lateCount;
      this.#base = undefined;
      this.#pages.clear();
      this.generation += 1;
    }
    if (this.#head.length > HEAD_MAX) {
      this.#reset(this.#head.slice(0, PAGE_SIZE), this.count);
    }
  }
}
