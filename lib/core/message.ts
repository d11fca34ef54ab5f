import { LockError, systemCode } from './error.js'
import type { Refusal } from './protocol.js'
import { LOCK_FILE, type Place } from './resource.js'
import type { Stamp } from './stamp.js'
import { forPeople, quoted, show } from './text.js'

/** A holder in words: `"hourly" (pid 4242 on mac-mini)`. */
export function describeHolder(stamp: Stamp | undefined): string {
  if (!stamp) return 'somebody'
  const { owner, processes, host } = stamp
  const pids = processes?.length ? `pid ${processes.map(({ pid }) => pid).join(', ')}` : 'detached'
  return `${owner === undefined ? 'somebody' : show(owner)} (${pids}${host === undefined ? '' : ` on ${show(host).slice(1, -1)}`})`
}

/** Since when, why and until when, as far as the stamp says it. */
export function describeHold({ acquiredAt, expiresAt, ttlMs, reason }: Stamp, now = Date.now()): string {
  const since = Date.parse(acquiredAt ?? '')
  const until = Date.parse(expiresAt ?? '')
  const parts = [
    Number.isNaN(since) ? '' : `since ${acquiredAt} (${forPeople(Math.max(0, now - since))})`,
    Number.isNaN(until) ? `for ${forPeople(ttlMs ?? 0)}` : `${until < now ? 'its lease ended' : 'until'} ${expiresAt}`,
    reason === undefined ? '' : `to ${show(reason)}`,
  ]
  if (ttlMs === undefined) parts[1] = 'until it is released'
  return parts.filter(Boolean).join(', ')
}

/** What names a place on the command line. */
export function words({ file, lockFile, given }: Place): string {
  return quoted(file) + (given ? ` --lock-file ${quoted(lockFile)}` : '')
}

/** The error for a lock that was not obtained, or not released. */
export function refusalError(place: Place, refusal: Refusal, waitedMs = 0): LockError {
  const { stamp: holder, verdict, retryAfterMs } = refusal
  const waited = waitedMs > 0 ? ` (waited ${forPeople(waitedMs)})` : ''
  return new LockError('ELOCKED', place.file + explanation(place, refusal, waited), { file: place.file, holder, verdict, retryAfterMs })
}

function explanation(place: Place, { stamp, verdict, why, path }: Refusal, waited: string): string {
  const { file, lockFile } = place
  switch (verdict) {
    case 'foreign':
      return (
        ` is not free${waited}: ${lockFile} is not a lock of ours (${why}) and stays until a person removes it. ` +
        `If it is a left-over: lockpact break ${words(place)} --reason …`
      )
    case 'unstamped':
      return (
        ` is being taken${waited}: ${lockFile} is empty or torn. ` +
        'If its creator died, it is free for who waits longer than 5 s, or when it is ten minutes old'
      )
    case 'guarded':
      return stamp
        ? ` changes hands${waited}: ${path} is held by ${describeHolder(stamp)}, ${why}. Look: lockpact status ${quoted(path)}`
        : ` changes hands${waited}: ${path} is in the way: ${why}. If it stays: lockpact break ${words(place)} --reason …`
    default: {
      const hold = stamp ? `${describeHold(stamp)}; ${why}` : why
      return ` is locked${waited} by ${describeHolder(stamp)}, ${hold}. Look: lockpact status ${quoted(LOCK_FILE.test(lockFile) ? lockFile : file)}`
    }
  }
}

const HINTS: Record<string, string> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the quota is used up',
  EACCES: 'not permitted; the folder must be writable for whoever takes the lock',
  EPERM: 'not permitted; in a sticky folder, only its owner removes a file',
  EROFS: 'the file system is read-only; give a writable place with the option lockFile',
  EMFILE: 'this process has too many open files',
  ENFILE: 'this machine has too many open files',
  EIO: 'the disk failed',
  ENOTDIR: 'a part of the path is not a folder',
  ENAMETOOLONG: 'the name is too long; give another place with the option lockFile',
}

/** An error of the operating system as a {@link LockError} with its code; other errors as they are. */
export function machineError(doing: string, place: Partial<Place>, error: unknown): unknown {
  const code = systemCode(error)
  if (code === undefined) return error
  const hint = HINTS[code] ?? (error as Error).message
  return new LockError(code, `cannot ${doing} ${place.lockFile ?? place.file ?? ''}: ${hint} (${code})`, {
    file: place.file,
    cause: error,
  })
}
