import { LockError, type Verdict } from './error.js'
import { asLockErrors, context } from './holding.js'
import { describeHolder, machineError } from './message.js'
import * as protocol from './protocol.js'
import { GUARD_SUFFIX, newWatch } from './protocol.js'
import { checkPath, LOCK_FILE, locate, type Place } from './resource.js'
import type { Stamp } from './stamp.js'
import { fs, join, resolve, system } from './system.js'
import { show } from './text.js'
import { patiently, run } from './wait.js'

/** Where a lock is. */
export interface PlaceOptions {
  /** Another path than `<file>.lock`: the one that it was taken with. */
  lockFile?: string
}

/**
 * Makes the lease of a lock begin anew; gives its new stamp. A lock that its own process renews is left to it: gives the stamp that it
 * has, without `bootMs` when that is by another clock than ours.
 * Rejects with `ENOTACQUIRED` when the token is not the holder's (or its process is seen to be dead), `ELOCKED` when its guard stays busy,
 * or its process behind with renewing, for six seconds, `EINVAL`, or the system's code.
 *
 * @example await renewLock('memory/queue.md', token)
 */
export async function renewLock(resource: string, token: string, options: PlaceOptions = {}): Promise<Stamp> {
  const { place, id } = byToken(resource, token, options)
  const watch = newWatch()
  const result = await run(
    patiently(place, () => asLockErrors('renew', place, () => protocol.renewShared(context, place.lockFile, id, watch))),
  )
  if (result === 'lost') throw notAcquired(place)
  return result.stamp
}

/**
 * Releases a detached lock.
 * Rejects with `ENOTACQUIRED` when the token is not the holder's, `ELOCKED` when its guard stays busy for six seconds, `EINVAL`, or the
 * system's code.
 *
 * @example await releaseLock('memory/queue.md', token)
 */
export async function releaseLock(resource: string, token: string, options: PlaceOptions = {}): Promise<void> {
  const { place, id } = byToken(resource, token, options)
  const watch = newWatch()
  const result = await run(
    patiently(place, () => asLockErrors('release', place, () => protocol.release(context, place.lockFile, id, watch))),
  )
  if (!result.released) throw notAcquired(place)
}

/** A lock as one of its co-owners knows it. */
export interface Held extends Place {
  token: string
}

/**
 * Does what cannot be undone, such as rename(2), while nobody can take any of these locks from us. `act` must be short.
 * Rejects with `ECOMPROMISED` when one is not ours any more, `ELOCKED` when a guard stays busy for six seconds, or the system's code.
 */
export async function commitUnder(locks: Held[], act: () => void): Promise<void> {
  const mine = locks.map(({ lockFile, token }) => ({ path: lockFile, id: system.id(token) }))
  const watch = newWatch()
  const attempt = () => {
    const result = protocol.commit(context, mine, watch, act)
    if (!result || !('lost' in result)) return result
    const { file } = locks.find(({ lockFile }) => lockFile === result.lost)!
    throw new LockError('ECOMPROMISED', `the lock of ${file} was lost; nothing was changed`, { file })
  }
  await run(patiently(locks[0]!, () => asLockErrors('change', locks[0]!, attempt)))
}

/** What {@link inspectLock} found. */
export interface Inspection extends Pick<Place, 'file' | 'lockFile'> {
  /** `stale`: the next who comes gets it. */
  state: 'free' | 'held' | 'stale'
  verdict?: Verdict
  /** The verdict in words. */
  why: string
  stamp?: Stamp
  /** Milliseconds until its TTL runs out; absent when it has none. */
  remainingMs?: number
}

/**
 * What is at a resource's lock path, without touching it. For information only, by the wall clock where the boot clock is not
 * comparable: between the answer and your next step it may change. Throws `EINVAL`, or the system's code.
 *
 * @example
 * const { state, stamp } = inspectLock('memory/queue.md')
 */
export function inspectLock(resource: string, options: PlaceOptions = {}): Inspection {
  return inspectPlace(findPlace(resource, options))
}

/** The same for the path of a lock file, or of a guard that was left behind. */
export function inspectLockFile(lockFile: string): Inspection {
  return inspectPlace({ file: lockFile.replace(LOCK_FILE, ''), lockFile })
}

function inspectPlace(place: Place): Inspection {
  const { reading, judgement } = asLockErrors('read', place, () =>
    protocol.inspect(context, place.lockFile, levelOf(place.lockFile)),
  )
  return inspectionOf(place, reading, judgement)
}

function inspectionOf(
  { file, lockFile }: Place,
  reading: protocol.Reading,
  { verdict, why, stale, retryAfterMs }: protocol.Judgement,
): Inspection {
  if (reading.kind === 'absent') return { file, lockFile, state: 'free', why: 'there is no lock file' }
  const runs = (verdict === 'alive' || verdict === 'out-of-sight') && retryAfterMs !== undefined
  return {
    file,
    lockFile,
    state: stale ? 'stale' : 'held',
    verdict,
    why,
    ...(reading.kind === 'stamp' && { stamp: reading.stamp }),
    ...(runs && { remainingMs: retryAfterMs }),
  }
}

/**
 * Removes a lock by force, whoever holds it; gives what was there before. Its holder is told (`signal`), if it is one that renews
 * or looks; a process that does not look goes on. So make sure that it is dead first.
 * Throws `ELOCKED` when a living process holds the guard (end that one), or when the lock changed hands meanwhile (look again).
 *
 * @example await breakLock('memory/queue.md', { reason: 'its machine burnt down' })
 */
export async function breakLock(resource: string, options: PlaceOptions & { reason: string }): Promise<Inspection> {
  if (typeof options?.reason !== 'string' || options.reason.trim() === '')
    throw new LockError('EINVAL', 'breakLock needs a reason: say why it is safe')
  const place = findPlace(resource, options)
  const { reading, judgement } = asLockErrors('read', place, () => protocol.inspect(context, place.lockFile))
  asLockErrors('break', place, () => breakForeignGuards(place.lockFile))
  if (reading.kind === 'absent') return inspectionOf(place, reading, judgement)
  const watch = newWatch()
  const result = await run(
    patiently(place, () => asLockErrors('break', place, () => protocol.breakOpen(context, place.lockFile, reading, watch))),
  )
  if (result === 'changed')
    throw new LockError(
      'ELOCKED',
      `${place.file} has changed hands while it was being broken; look again whether that is still needed`,
      { file: place.file },
    )
  return inspectionOf(place, reading, judgement)
}

// A guard that is not of our making would be in the way for ever. The deepest first.
function breakForeignGuards(lockFile: string): void {
  for (let level = protocol.MAX_GUARDS; level > 0; level--) {
    const path = lockFile + GUARD_SUFFIX.repeat(level)
    const { reading } = protocol.inspect(context, path, level)
    if (reading.kind === 'foreign') protocol.breakOpen(context, path, reading, { ...newWatch(), isClearing: true }, level)
  }
}

/** One lock file or guard that {@link sweepLocks} found. */
export interface Swept {
  /** Its absolute path. */
  lockFile: string
  /** `would remove`: with `dryRun`. */
  action: 'removed' | 'would remove' | 'kept'
  verdict: Verdict
  /** The verdict in words, or the error that kept it from being removed. */
  why: string
  stamp?: Stamp
}

const LEFT_OUT = new Set(['node_modules', '.git'])

/**
 * Removes what is stale below a folder, locks and guards, and tells what and why. Whatever is held, and what is not certainly a lock
 * of ours, is kept: also an empty file, which may be another program's (flock(1)); if it is ours, whoever wants that resource gets it.
 * `node_modules` and `.git` are left out; symbolic links are not followed.
 *
 * @example for (const { lockFile, action, why } of await sweepLocks('memory', { dryRun: true })) console.log(action, lockFile, why)
 */
export async function sweepLocks(folder: string, options: { dryRun?: boolean } = {}): Promise<Swept[]> {
  checkOptions(options)
  const swept: Swept[] = []
  for (const lockFile of await lockFilesBelow(folder)) swept.push(...sweepOne(lockFile, options.dryRun))
  return swept
}

/** Paths of all lock files and guards below a folder. Throws the system's code when the folder cannot be read. */
export async function lockFilesBelow(folder: string): Promise<string[]> {
  const found: string[] = []
  const visit = async (here: string) => {
    for (const entry of await fs.promises.readdir(here, { withFileTypes: true })) {
      const path = join(here, entry.name)
      // Some tools' locks are folders.
      if (LOCK_FILE.test(entry.name)) found.push(path)
      // A subfolder may be unreadable, or gone by now.
      else if (entry.isDirectory() && !LEFT_OUT.has(entry.name)) await visit(path).catch(() => {})
    }
  }
  const top = asLockErrors('find', { file: show(folder) }, () => resolve(checkPath('folder', folder)))
  await visit(top).catch((error: unknown) => {
    throw machineError('read', { file: top }, error)
  })
  return found.sort()
}

/** The same for one lock file or guard. */
export function sweepOne(lockFile: string, dryRun = false): Swept[] {
  const level = levelOf(lockFile)
  const place = { file: lockFile, lockFile }
  const { reading, judgement } = asLockErrors('read', place, () => protocol.inspect(context, lockFile, level))
  if (reading.kind === 'absent') return []
  const seen = {
    lockFile,
    verdict: judgement.verdict,
    why: judgement.why,
    ...(reading.kind === 'stamp' && { stamp: reading.stamp }),
  }
  if (level === 0 && reading.kind === 'unstamped') return [{ ...seen, action: 'kept', why: 'it is empty or torn, and may be another program’s' }]
  if (dryRun) return [{ ...seen, action: judgement.stale ? 'would remove' : 'kept' }]
  let result: ReturnType<typeof protocol.sweep>
  try {
    result = asLockErrors('sweep', place, () => protocol.sweep(context, lockFile, level, newWatch()))
  } catch (error) {
    return [{ ...seen, action: 'kept', why: (error as Error).message }]
  }
  if (result === 'changed') return [{ ...seen, action: 'kept', why: 'it changes hands' }]
  return [result.done ? { ...seen, action: 'removed' } : { ...seen, action: 'kept', verdict: result.verdict, why: result.why }]
}

// How many guards deep; a lock file that somebody named so himself is at the bottom.
function levelOf(path: string): number {
  return (LOCK_FILE.exec(path)?.[2] ?? '').length / GUARD_SUFFIX.length
}

function byToken(resource: string, token: string, options: PlaceOptions): { place: Place; id: string } {
  if (typeof token !== 'string' || token === '')
    throw new LockError('EINVAL', `token must be the text that acquireLock gave, not ${show(token)}`)
  return { place: findPlace(resource, options), id: system.id(token) }
}

function findPlace(resource: string, options: PlaceOptions): Place {
  checkOptions(options)
  return asLockErrors('find the place of', { file: show(resource) }, () => locate(resource, options.lockFile))
}

function checkOptions(options: unknown): void {
  if (typeof options !== 'object' || options === null)
    throw new LockError('EINVAL', `options must be an object, not ${show(options)}`)
}

function notAcquired(place: Place): LockError {
  const { stamp, state } = inspectPlace(place)
  const now =
    state === 'free' ? 'nobody holds it' : stamp ? `${describeHolder(stamp)} holds it` : 'what is there is not a lock of ours'
  return new LockError(
    'ENOTACQUIRED',
    `this token does not hold ${place.file}: ${now}. What it protected may have been changed by others`,
    { file: place.file, holder: stamp },
  )
}
