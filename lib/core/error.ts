import type { Stamp } from './stamp.js'
import { plain } from './text.js'

/**
 * Why a lock is held, or may be taken.
 *
 * | verdict | meaning |
 * | --- | --- |
 * | `alive` | its process lives, and its TTL runs or it has none |
 * | `out-of-sight` | nothing can be known about its process (another machine, container or boot; detached); its TTL runs or it has none |
 * | `silent` | its TTL has run out, but its process lives and should have renewed it: free for who watches that for 5 s |
 * | `dead` | its process is dead |
 * | `expired` | its TTL has run out |
 * | `unstamped` | empty or torn: being taken, or its creator died |
 * | `foreign` | not a lock of ours, never taken |
 * | `guarded` | somebody is removing it, or a guard was left behind |
 */
export type Verdict = 'alive' | 'out-of-sight' | 'silent' | 'dead' | 'expired' | 'unstamped' | 'foreign' | 'guarded'

/** The facts of a {@link LockError}, as far as they are known. */
export interface LockErrorFacts {
  /** The protected file (absolute), or the free name. */
  file?: string | undefined
  /** The stamp of who has it. */
  holder?: Stamp | undefined
  /** What is known about the holder. */
  verdict?: Verdict | undefined
  /** Milliseconds after which another attempt makes sense. */
  retryAfterMs?: number | undefined
  cause?: unknown
}

/**
 * The one error of this library. `code` says what happened:
 *
 * | code | meaning |
 * | --- | --- |
 * | `ELOCKED` | somebody else has it; or it was waited for in vain |
 * | `ECOMPROMISED` | this lock was held and has been lost |
 * | `ENOTACQUIRED` | the token is not the holder's |
 * | `EINVAL` | an argument is wrong; the message says which, and what to do |
 * | `ENOSPC`, `EACCES`, `EROFS`, `EMFILE`, `EIO`, … | the machine refused; nothing was taken; `cause` is its error |
 */
export class LockError extends Error {
  override readonly name = 'LockError'
  readonly code: string
  // Only what is known: an uncaught error is printed with all that it has.
  declare readonly file: string | undefined
  declare readonly holder: Stamp | undefined
  declare readonly verdict: Verdict | undefined
  declare readonly retryAfterMs: number | undefined

  constructor(code: string, message: string, { cause, ...facts }: LockErrorFacts = {}) {
    super(plain(message), cause === undefined ? undefined : { cause })
    this.code = code
    for (const [name, value] of Object.entries(facts)) if (value !== undefined) Object.assign(this, { [name]: value })
  }
}
// Minified, it would be printed under another name.
Object.defineProperty(LockError, 'name', { value: 'LockError' })
Object.assign(LockError.prototype, { file: undefined, holder: undefined, verdict: undefined, retryAfterMs: undefined })

/**
 * Whether an error is a {@link LockError}, of this or of another copy of the package.
 *
 * @example
 * try { await acquireLock('queue.md') } catch (error) { if (!isLockError(error) || error.code !== 'ELOCKED') throw error }
 */
export function isLockError(error: unknown): error is LockError {
  return error instanceof Error && error.name === 'LockError' && 'code' in error
}

/** The code of an error of the operating system, such as `'ENOENT'`. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'syscall' in error && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined
}
