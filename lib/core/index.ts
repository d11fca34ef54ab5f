/*
 * The door of this room: what the layers above may use. It is bundled into one file, since every module costs a third of a
 * millisecond at start; the public names among these are in `lib/index.ts`.
 */
export { type Duration, toMs } from './duration.js'
export { isLockError, LockError, type LockErrorFacts, type Verdict } from './error.js'
export type { LockEvent } from './holding.js'
export { acquireLock, acquireLockSync, type AcquireOptions, Lock, LockSync, withLock } from './lock.js'
export {
  breakLock,
  inspectLock,
  inspectLockFile,
  type Inspection,
  lockFilesBelow,
  type PlaceOptions,
  releaseLock,
  renewLock,
  type Swept,
  sweepLocks,
} from './manage.js'
export { describeHold, describeHolder } from './message.js'
export { LOCK_FILE, locate } from './resource.js'
export type { ProcessStamp, Stamp } from './stamp.js'
export { fs, relative, resolve } from './system.js'
export { forPeople, plain, quoted, show } from './text.js'
