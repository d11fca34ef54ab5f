import type { FSWatcher } from 'node:fs'
import { basename, dirname, fs } from './system.js'

/** A holder's death is noticed by polling; this keeps it below a tenth of a second. */
const POLL_MS = { from: 40, to: 80 }

/** How long to sleep between two looks. `hint`: when another look may make sense. `looks`: how many there have been. */
export function pollDelay(hint: number, looks: number): number {
  const poll = POLL_MS.from + Math.random() * (POLL_MS.to - POLL_MS.from)
  return Math.min(poll, Math.max(hint, Math.min(poll, 2 ** looks)))
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
