/*
 * Cleaning up when the process ends, without changing how it ends.
 *
 * Listeners exist only while they are needed. On a signal they release, and raise it again only when nobody else listens: where
 * the application handles the signal, it decides. Other copies of lockpact do not count as somebody (a registry that all of them
 * share), nor does signal-exit: it ends the process only when every listener is its own, so waiting for it would hang.
 */

const SIGNALS: NodeJS.Signals[] = process.platform === 'win32' ? ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGBREAK'] : ['SIGINT', 'SIGTERM', 'SIGHUP']

type Listener = (signal: NodeJS.Signals) => void
const OURS = Symbol.for('lockpact signal listeners')
const shared = globalThis as { [OURS]?: Set<unknown> }

/** Calls `release` when the process ends by return, exit, error or signal, from `arm` until a moment after `disarm`. */
export class ExitWatch {
  readonly #release: () => void
  #armed = false
  #wanted = false

  constructor(release: () => void) {
    this.#release = release
  }

  arm(): void {
    this.#wanted = true
    if (this.#armed) return
    this.#armed = true
    ;(shared[OURS] ??= new Set()).add(this.#onSignal)
    process.on('exit', this.#release)
    // In front, to see the listeners that are there before a `once` among them is gone.
    for (const signal of SIGNALS) process.prependListener(signal, this.#onSignal)
  }

  /** Installing signal handlers costs more than a lock: they stay for one turn of the event loop, in case another follows. */
  disarm(): void {
    if (!this.#wanted) return
    this.#wanted = false
    setImmediate(() => {
      if (!this.#wanted) this.#remove()
    }).unref()
  }

  #remove(): void {
    if (!this.#armed) return
    this.#armed = false
    shared[OURS]?.delete(this.#onSignal)
    process.off('exit', this.#release)
    for (const signal of SIGNALS) process.off(signal, this.#onSignal)
  }

  readonly #onSignal: Listener = (signal) => {
    const others = process.listeners(signal).filter((listener) => !shared[OURS]?.has(listener)).length - signalExits()
    if (others > 0) return
    this.#release()
    this.#remove()
    process.kill(process.pid, signal)
  }
}

// Versions 4 and 3 count their listeners; each copy of them has one.
function signalExits(): number {
  const { [Symbol.for('signal-exit emitter')]: four, __signal_exit_emitter__: three } = process as unknown as Record<PropertyKey, { count?: number } | undefined>
  return (four?.count ?? 0) + (three?.count ?? 0)
}
