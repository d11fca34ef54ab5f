import type { FSWatcher } from 'node:fs'
import { refusalError } from './message.js'
import type { Refusal } from './protocol.js'
import type { Place } from './resource.js'
import { basename, dirname, fs, sleepSync, system } from './system.js'

/** How long `release` and `renew` try when the guard is busy: longer than it takes to watch a guard that never got its stamp. */
const PATIENCE_MS = 6_000
/** A holder's death is noticed by polling; this keeps it below a tenth of a second. */
const POLL_MS = { from: 40, to: 80 }

/** How long to sleep between two looks. `hint`: when another look may make sense. `looks`: how many there have been. */
export function pollDelay(hint: number, looks: number): number {
  const poll = POLL_MS.from + Math.random() * (POLL_MS.to - POLL_MS.from)
  return Math.min(poll, Math.max(hint, 2 ** looks))
}

/** Wakes a waiter as soon as a lock file comes or goes. Where watching is impossible, the waiter's polling has to do. */
export class Doorbell {
  #watcher: FSWatcher | undefined
  #ring: (() => void) | undefined

  constructor(lockFile: string) {
    const name = basename(lockFile)
    try {
      this.#watcher = fs.watch(dirname(lockFile), { persistent: false }, (event, changed) => {
        // Renewals are a 'change'.
        if (event === 'rename' && (changed === name || changed === null)) this.#ring?.()
      })
      this.#watcher.on('error', () => this.close())
    } catch {
      // The limit of inotify watches, or a file system without them.
    }
  }

  /** Resolves when the lock file came or went, after `ms`, or when the signal is aborted. */
  wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        this.#ring = undefined
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal?.addEventListener('abort', done)
      this.#ring = done
    })
  }

  close(): void {
    this.#watcher?.close()
    this.#watcher = undefined
  }
}

/** Steps that try for six seconds while a guard is in the way; each yields how long to sleep. */
export function* patiently<T>(place: Place, action: () => T | Refusal): Generator<number, T> {
  const until = system.clock().boot + PATIENCE_MS
  for (let looks = 0; ; looks++) {
    const result = action()
    if (!isRefusal(result)) return result
    if (system.clock().boot >= until) throw refusalError(place, result, PATIENCE_MS)
    yield pollDelay(1, looks)
  }
}

/** Runs steps, sleeping without the event loop. */
export function runSync<T>(steps: Generator<number, T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
    sleepSync(step.value)
  }
}

/** Runs steps, sleeping on a timer. */
export async function run<T>(steps: Generator<number, T>): Promise<T> {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
    await new Promise((resolve) => setTimeout(resolve, step.value))
  }
}

function isRefusal(result: unknown): result is Refusal {
  return typeof result === 'object' && result !== null && 'done' in result && result.done === false
}
