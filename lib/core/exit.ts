/*
 * Cleaning up when the process ends, without changing how it ends.
 *
 * Listeners exist only while they are needed. On a signal they release, and raise it again only when nobody else listens: where
 * the application handles the signal, it decides. Other copies of lockpact do not count as somebody (a registry that all of them
 * share), nor does signal-exit: it ends the process only when every listener is its own, so waiting for it would hang.
 */

const SIGNALS: NodeJS.Signals[] =
  process.platform === 'win32' ? ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGBREAK'] : ['SIGINT', 'SIGTERM', 'SIGHUP']

type Listener = (signal: NodeJS.Signals) => void
const OURS = Symbol.for('lockpact signal listeners')
const shared = globalThis as { [OURS]?: Set<unknown> }

/** Calls `release` when the process ends by return, exit, error or signal, from `arm` until a moment after `disarm`. */
export class ExitWatch {
  readonly #release: () => void
  #armed = false
  #wanted = false
  #turn = 0

  constructor(release: () => void) {
    this.#release = release
  }

  arm(): void {
    this.#wanted = true
    this.#turn++
    if (this.#armed) return
    this.#armed = true
    ;(shared[OURS] ??= new Set()).add(this.#onSignal)
    process.on('exit', this.#release)
    // In front, to see the listeners that are there before a `once` among them is gone.
    for (const signal of SIGNALS) process.prependListener(signal, this.#onSignal)
  }

  /**
   * Installing signal handlers costs more than a lock, so they stay for a turn of the event loop, in case another lock follows. And
   * a signal that came meanwhile is told to listeners in the next turn only: it would be lost if they went before it.
   */
  disarm(): void {
    if (!this.#wanted) return
    this.#wanted = false
    const turn = ++this.#turn
    setImmediate(() => setImmediate(() => turn === this.#turn && this.#remove()).unref()).unref()
  }

  /** For who is about to sleep without the event loop: it could not tell anybody of a signal. */
  disarmNow(): void {
    this.#wanted = false
    this.#remove()
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

// Versions 4 and 3 count the copies of themselves that listen.
function signalExits(): number {
  const four = (globalThis as unknown as Record<symbol, { count?: number } | undefined>)[Symbol.for('signal-exit emitter')]
  const three = (process as unknown as Record<string, { count?: number } | undefined>)['__signal_exit_emitter__']
  return (four?.count ?? 0) + (three?.count ?? 0)
}
