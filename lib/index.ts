/**
 * Lock files that scheduled agents can keep.
 *
 * `<file>.lock`, created with O_EXCL, says that a file is held: by whom, since when, until when, why. It excludes everybody who
 * asks; a program that just writes is not stopped by it.
 *
 * ```ts
 * import { withLock } from 'lockpact'
 *
 * await withLock('memory/queue.md', { owner: 'hourly', wait: '30s' }, async (lock) => {
 *   // only one agent is here; lock.signal aborts if the lock is ever lost
 * })
 * ```
 *
 * The calling sequence, and what to do when it fails:
 *
 * 1. {@link acquireLock} (or {@link withLock}, which does all of this). `ELOCKED` means that somebody else has it: its message
 *    says who, and `retryAfterMs` when to ask again. A refusal is never permission to go on.
 * 2. Work. A lock is renewed by itself while the process lives. When it is lost all the same (a laptop slept, a person broke it),
 *    `lock.held` turns false and `lock.signal` aborts. Before a step that cannot be undone, ask `lock.assertHeld()`.
 * 3. `lock.release()`, safe to call twice. When the process ends first, in whatever way, the next who comes gets the lock.
 *
 * What outlives the process is a detached lock: `acquireLock(file, { detached: true })` gives a `token`, and any process renews
 * and releases by it ({@link renewLock}, {@link releaseLock}).
 *
 * Looking and clearing up: {@link inspectLock}, {@link breakLock}, {@link sweepLocks}.
 *
 * @module
 */
export { acquireLock, acquireLockSync, Lock, LockSync, withLock } from './core/index.js'
export { breakLock, inspectLock, releaseLock, renewLock, sweepLocks } from './core/index.js'
export { isLockError, LockError } from './core/index.js'
export type { AcquireOptions, Duration, Inspection, LockErrorFacts, LockEvent, PlaceOptions, ProcessStamp, Stamp, Swept, Verdict } from './core/index.js'
