import { LockError } from './error.js'

/** One process of a holder. `start` (clock ticks after boot) tells it from a later process with the same pid. */
export interface ProcessStamp {
  pid: number
  start?: string | undefined
  /** The thread that took the lock: when a worker thread is terminated, its locks are dead. Linux. */
  tid?: number | undefined
}

/** The text in a lock file, version 1: who, since when, until when, why. Only `v` is required of others. */
export interface Stamp {
  v: 1
  /** The first 16 hex digits of SHA-256 of the token. */
  id?: string | undefined
  /** A label for people; never an identity. */
  owner?: string | undefined
  reason?: string | undefined
  /** Alive while one of them is. None: judged by the TTL alone. */
  processes?: ProcessStamp[] | undefined
  /** Boot, pid namespace and time namespace: where the processes and `bootMs` mean something. */
  boot?: string | undefined
  pidns?: string | undefined
  timens?: string | undefined
  host?: string | undefined
  /** ISO times in UTC, by the holder's wall clock, for people. */
  acquiredAt?: string | undefined
  renewedAt?: string | undefined
  expiresAt?: string | undefined
  /** Milliseconds that it is good for after the last write. Absent: until released, or its holder dies. */
  ttlMs?: number | undefined
  /** Whether its holder renews it by itself while it lives. */
  renews?: boolean | undefined
  /** The boot clock at the last write; right-aligned in the file. */
  bootMs?: number | undefined
  /** Microseconds of the file system's clock: never smaller than an earlier holder's while that clock does not go back. */
  fence?: number | undefined
}

/** What a text at a lock's path is: a stamp, nothing yet (empty or torn), or something that is not ours. */
export type Decoded = { kind: 'stamp'; stamp: Stamp } | { kind: 'unstamped' } | { kind: 'foreign'; why: string; cause?: unknown }

/** Every stamp has this many bytes, so that rewriting never changes a lock file's length. */
export const STAMP_BYTES = 1024
const PADDING = `${' '.repeat(STAMP_BYTES)}\n`
/** A lock can be bound to this many processes; `owner` and `reason` leave room for them. */
export const MAX_PROCESSES = 3
const MAX_LABEL_BYTES = 120
const MAX_REASON_BYTES = 200

const CLOCK_DIGITS = 13

/** The text for a lock file: one line of JSON, padded with blanks, and a newline. */
export function encode(stamp: Stamp): string {
  // Right-aligned: of a renewal that is read half written, with the old digits behind the new ones, the time is never earlier than the old one.
  const json = JSON.stringify(stamp).replace(/"bootMs":(\d+)/, (_, digits: string) => `"bootMs":${digits.padStart(CLOCK_DIGITS)}`)
  const blanks = STAMP_BYTES - 1 - Buffer.byteLength(json)
  if (blanks < 0)
    throw new LockError(
      'EINVAL',
      `a stamp has ${STAMP_BYTES} bytes, this one needs ${STAMP_BYTES - blanks}; make owner and reason shorter`,
    )
  return json + PADDING.slice(-1 - blanks)
}

/** Reads what {@link encode}, or a shell script, wrote. Never throws. */
export function decode(text: string): Decoded {
  if (Buffer.byteLength(text) > STAMP_BYTES) return { kind: 'foreign', why: `longer than ${STAMP_BYTES} bytes` }
  if (/^[\s\0]*$/.test(text)) return { kind: 'unstamped' }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // The beginning of a stamp, written or read halfway; anything else is another program's.
    const opening = text.slice(0, 5)
    return '{"v":'.startsWith(opening) ? { kind: 'unstamped' } : { kind: 'foreign', why: 'not a stamp' }
  }
  if (typeof value !== 'object' || value === null || !('v' in value)) return { kind: 'foreign', why: 'not a stamp' }
  if (value.v !== 1) return { kind: 'foreign', why: 'a stamp of another version' }
  for (const [key, fits] of FIELDS) {
    const field = (value as Record<string, unknown>)[key]
    if (field !== undefined && !fits(field)) return { kind: 'foreign', why: `a stamp whose "${key}" is unusable` }
  }
  return { kind: 'stamp', stamp: value as Stamp }
}

const isText = (value: unknown) => typeof value === 'string'
const isPositive = (value: unknown) => typeof value === 'number' && value > 0
// kill(2) gives 0 and negative numbers another meaning: whole groups.
export const isPid = (value: unknown): value is number =>
  Number.isInteger(value) && isPositive(value) && (value as number) < 2 ** 31

function isProcess(value: unknown): value is ProcessStamp {
  if (typeof value !== 'object' || value === null) return false
  const { pid, start, tid } = value as Record<string, unknown>
  return isPid(pid) && (start === undefined || isText(start)) && (tid === undefined || isPid(tid))
}

const FIELDS = Object.entries<(value: unknown) => boolean>({
  id: (value) => isText(value) && /^[0-9a-f]{16}$/.test(value as string),
  owner: isText,
  reason: isText,
  processes: (value) => Array.isArray(value) && value.every(isProcess),
  boot: isText,
  pidns: isText,
  timens: isText,
  host: isText,
  acquiredAt: isText,
  renewedAt: isText,
  expiresAt: isText,
  ttlMs: isPositive,
  renews: (value) => typeof value === 'boolean',
  bootMs: (value) => value === 0 || isPositive(value),
  fence: (value) => value === 0 || isPositive(value),
})

/** Checks the texts that people give, before anything is created. Throws `EINVAL`. */
export function checkLabels(owner: unknown, reason: unknown): void {
  for (const [name, value, limit] of [
    ['owner', owner, MAX_LABEL_BYTES],
    ['reason', reason, MAX_REASON_BYTES],
  ] as const) {
    if (value === undefined) continue
    if (typeof value !== 'string') throw new LockError('EINVAL', `${name} must be a text, not ${typeof value}`)
    const bytes = Buffer.byteLength(JSON.stringify(value)) - 2
    if (bytes > limit) throw new LockError('EINVAL', `${name} has ${bytes} bytes, a stamp has room for ${limit}; make it shorter`)
  }
}
