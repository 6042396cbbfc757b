import { get, query, refusal } from "../shared/api.ts";
import type { Entry, Filters, Page } from "./types.ts";

/** Entries asked for at once. */
const PAGE = 200;
/** Pages that are kept, so that memory stays flat however far one scrolls. */
const PAGES_KEPT = 30;
/** What has come live is shortened to a page when it is more than this. */
const HEAD_MAX = 2_000;
/** Entries that wait to be shown; beyond it they are counted only. */
const WAITING_MAX = 2_000;
/** Changes that are shown at once. */
const GATHER_MS = 100;
/** After which a tail that was refused is asked for again. */
export const AGAIN_MS = 15_000;

/** After which one that would not be refused any more is. */
const SOON_MS = 1_000;

/** What the tail does: it needs a period that is open. */
export type Tail = "off" | "connecting" | "live" | "refused";

/**
 * All lines that fit, the newest first. The head is what came first and what comes live. Behind it is the base, asked
 * for by pages: up to a fixed moment, so that what is new does not move it.
 */
export class Lines {
  #head: Entry[] = [];
  /** Entries behind the head. */
  #behind = 0;
  /** Up to when pages are asked for, and how many of the first one the head has; unknown until they are needed. */
  #base: { until: string; skip: number } | undefined;
  #pages = new Map<number, Entry[]>();
  #asked = new Set<number>();
  #waiting: Entry[] = [];
  #known = new Set<number>();
  #counted = 0;
  #source: EventSource | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #again: ReturnType<typeof setTimeout> | undefined;
  #abort = new AbortController();

  /** Whether the first answer is there. */
  ready = false;
  mode: Page["search_mode"];
  partial = false;
  error: Error | undefined;
  tail: Tail = "off";
  /** Why it was refused, until it is live again. */
  refusal: Error | undefined;
  /** While somebody reads, what is new waits. */
  held = false;
  /** How often all began anew. */
  era = 0;

  constructor(
    readonly filters: Filters,
    readonly changed: () => void,
  ) {}

  async open(): Promise<void> {
    try {
      const page = await this.#get({ limit: PAGE });
      this.ready = true;
      this.mode = page.search_mode;
      this.partial = page.partial ?? false;
      this.#reset(page.logs, page.total);
      this.#listen();
    } catch (why) {
      this.#fail(why as Error);
    }
    this.#say();
  }

  close(): void {
    this.#abort.abort();
    this.#source?.close();
    clearTimeout(this.#timer);
    clearTimeout(this.#again);
  }

  get count(): number {
    return this.#head.length + this.#behind;
  }

  /** How many are in front of what is asked for by pages: these come and go, and all behind them stays. */
  get headCount(): number {
    return this.#head.length;
  }

  /** How many wait to be shown. */
  get waiting(): number {
    return this.#counted;
  }

  /** The line at an index, if it is there yet. */
  at(index: number): Entry | undefined {
    const behind = index - this.#head.length;
    if (behind < 0) {
      return this.#head[index];
    }
    const place = behind + (this.#base?.skip ?? 0);
    return this.#base && this.#pages.get(Math.floor(place / PAGE))?.[place % PAGE];
  }

  /** Asks for what is missing between two indexes. */
  async want(first: number, last: number): Promise<void> {
    const [from, to] = [Math.max(first, this.#head.length), Math.min(last, this.count - 1)];
    if (from > to || this.#asked.size > 0) {
      return;
    }
    try {
      const base = this.#base ?? (await this.#calibrate());
      const page = (index: number): number => Math.floor((index - this.#head.length + (base?.skip ?? 0)) / PAGE);
      for (let number = page(from); base && number <= page(to); number++) {
        await this.#load(base, number);
      }
    } catch (why) {
      this.#fail(why as Error);
      this.#say();
    }
  }

  /** After something went wrong. */
  retry(): void {
    this.error = undefined;
    if (this.ready) {
      this.changed();
    } else {
      void this.open();
    }
  }

  /** Shows what waits. */
  release(): void {
    if (this.#counted > this.#waiting.length) {
      this.#forget();
      void this.open();
      return;
    }
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#counted = 0;
    this.#insert(waiting);
    this.changed();
  }

  /** Asks for the tail again, after it was refused. */
  follow(): void {
    clearTimeout(this.#again);
    this.#listen();
    this.changed();
  }

  #get(more: Record<string, string | number>): Promise<Page> {
    return get<Page>(`api/logs${query({ ...this.filters, ...more })}`, this.#abort.signal);
  }

  #fail(why: Error): void {
    if (!this.#abort.signal.aborted) {
      this.error = why;
    }
  }

  #say(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      if (!this.held && this.#counted > 0) {
        this.release();
      } else {
        this.changed();
      }
    }, GATHER_MS);
  }

  /** Begins anew with a head, of so many in all. */
  #reset(head: Entry[], total: number): void {
    this.error = undefined;
    this.era += 1;
    this.#head = head;
    this.#known = new Set(head.map(({ id }) => id));
    this.#behind = Math.max(0, total - head.length);
    this.#base = undefined;
    this.#pages.clear();
    this.#asked.clear();
  }

  #forget(): void {
    this.#source?.close();
    clearTimeout(this.#again);
    this.#waiting = [];
    this.#counted = 0;
  }

  /** Finds the place behind the head: up to the moment of its last line there are that line and those behind it. */
  async #calibrate(): Promise<{ until: string; skip: number } | undefined> {
    const last = this.#head.at(-1);
    if (!last) {
      return undefined;
    }
    this.#asked.add(-1);
    try {
      // A line whose clock was set back stands up to a second later than it says.
      for (const marginMs of [0, 1_000]) {
        const until = new Date(Date.parse(last.timestamp) + marginMs).toISOString();
        const page = await this.#get({ until, limit: PAGE, offset: 0 });
        const skip = page.logs.findIndex(({ id }) => id === last.id) + 1;
        if (skip > 0 || marginMs > 0) {
          this.#base = { until, skip };
          this.#take(0, page, this.#base);
          break;
        }
      }
    } finally {
      this.#asked.delete(-1);
    }
    return this.#base;
  }

  async #load(base: { until: string; skip: number }, number: number): Promise<void> {
    if (this.#pages.has(number) || this.#asked.has(number)) {
      return;
    }
    this.#asked.add(number);
    try {
      this.#take(number, await this.#get({ until: base.until, limit: PAGE, offset: number * PAGE }), base);
    } finally {
      this.#asked.delete(number);
    }
  }

  #take(number: number, page: Page, base: { skip: number }): void {
    // An answer for what was there before the head was shortened.
    if (base !== this.#base) {
      return;
    }
    this.#pages.delete(number);
    this.#pages.set(number, page.logs);
    const oldest = this.#pages.keys().next().value;
    if (this.#pages.size > PAGES_KEPT && oldest !== undefined) {
      this.#pages.delete(oldest);
    }
    this.partial ||= page.partial ?? false;
    // The oldest are removed meanwhile, and where not all was looked through it may be another part each time.
    const end = page.logs.length < PAGE ? number * PAGE + page.logs.length : page.total;
    this.#behind = Math.max(0, end - base.skip);
    this.#say();
  }

  /** Follows what is new, where the period has no end. */
  #listen(): void {
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
      this.refusal = undefined;
      void this.#catchUp();
    });
    source.addEventListener("log", (event) => this.#arrive([JSON.parse(event.data)]));
    source.addEventListener("error", () => {
      const refused = source.readyState === EventSource.CLOSED;
      this.tail = refused ? "refused" : "connecting";
      if (refused) {
        clearTimeout(this.#again);
        this.#again = setTimeout(() => this.follow(), AGAIN_MS);
        // Why it is, only another request tells.
        void refusal(path, this.#abort.signal).then((why) => {
          this.refusal = why;
          if (!why) {
            clearTimeout(this.#again);
            this.#again = setTimeout(() => this.follow(), SOON_MS);
          }
          this.#say();
        });
        void this.#catchUp();
      }
      this.#say();
    });
  }

  /** What came before the tail began. */
  async #catchUp(): Promise<void> {
    const newest = this.#waiting[0] ?? this.#head[0];
    const since = newest && new Date(Date.parse(newest.timestamp)).toISOString();
    try {
      const page = await this.#get({ ...(since ? { since } : {}), limit: PAGE });
      this.#arrive(page.logs);
      if (page.total > page.logs.length && page.logs.every(({ id }) => id !== newest?.id)) {
        // There is a gap behind these, which what waits must not hide.
        this.#counted = Math.max(this.#counted, page.total);
      }
    } catch (why) {
      this.#fail(why as Error);
    }
    this.#say();
  }

  #arrive(entries: Entry[]): void {
    const fresh = entries.filter(({ id }) => !this.#known.has(id));
    this.#counted += fresh.length;
    for (const entry of fresh) {
      if (this.#waiting.length < WAITING_MAX) {
        this.#known.add(entry.id);
        this.#waiting.push(entry);
      }
    }
    this.#waiting.sort((a, b) => b.id - a.id);
    this.#say();
  }

  #insert(entries: Entry[]): void {
    this.#head = [...entries, ...this.#head].sort((a, b) => b.id - a.id);
    if (this.#head.length > HEAD_MAX) {
      this.#reset(this.#head.slice(0, PAGE), this.count);
    }
  }
}
