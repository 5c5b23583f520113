export interface Launch {
  /** Booted; restored from a template; restored and warmed before it was asked for; that of another container. */
  readonly kind: 'cold' | 'cloned' | 'pooled' | 'joined';
  /** Why it was not a clone. */
  readonly reason?: string;
}

/** In the order in which they happened: name and duration of each phase. */
export interface Timing {
  /** How its microVM came to be, and why not faster. */
  readonly launch?: Launch;
  readonly phases: readonly { readonly name: string; readonly durationMs: number }[];
}

/** Measures a launch phase by phase: each `end` names what went on since the last one. */
export class PhaseClock {
  readonly #now: () => bigint;
  readonly #phases: { name: string; durationMs: number }[] = [];
  #since: bigint;
  #launch: Launch | undefined;

  /** `now` is monotonic, nanoseconds; the first phase began at `since`. */
  constructor(now: () => bigint, since: bigint = now()) {
    this.#now = now;
    this.#since = since;
  }

  /** Ends the phase that runs and begins the next. Phases of one name are added up. */
  end(name: string): void {
    const now = this.#now();
    const durationMs = Number(now - this.#since) / 1e6;
    this.#since = now;
    const known = this.#phases.find((phase) => phase.name === name);
    if (known === undefined) this.#phases.push({ name, durationMs });
    else known.durationMs += durationMs;
  }

  /** Says how the microVM came to be. */
  launched(launch: Launch): void {
    this.#launch = launch;
  }

  timing(): Timing {
    return {
      ...(this.#launch && { launch: this.#launch }),
      phases: this.#phases.map((phase) => ({ ...phase })),
    };
  }
}
