/*
 * The door of this room: what the layers above may use. It is bundled into one file, since every module costs a third of a
 * millisecond at start; the public names among these are in `lib/index.ts`.
 */
export { type Duration, toMs } from './duration.js'
export { isLockError, LockError, type LockErrorFacts, systemCode, type Verdict } from './error.js'
export type { LockEvent } from './event.js'
export { bindLease, idOf, judgeLease, newLease, renewLease } from './lease.js'
export { acquireLock, acquireLockSync, type AcquireOptions, Lock, LockSync, withLock } from './lock.js'
export {
  breakLock,
  commitUnder,
  type Held,
  inspectLock,
  inspectLockFile,
  type Inspection,
  lockFilesBelow,
  type PlaceOptions,
  releaseLock,
  renewLock,
  type Swept,
  sweepLocks,
  sweepOne,
} from './manage.js'
export { describeHold, describeHolder, machineError } from './message.js'
export { checkPath, LOCK_FILE, locate, nameLock, type Place, workspace } from './resource.js'
export { checkLabels, type ProcessStamp, type Stamp } from './stamp.js'
export { basename, crypto, dirname, fs, isAbsolute, join, relative, resolve, sep } from './system.js'
export { ago, forPeople, plain, quoted, show } from './text.js'
export { Doorbell, pollDelay } from './wait.js'
