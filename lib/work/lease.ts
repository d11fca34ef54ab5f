import { bindLease, judgeLease, newLease, type ProcessStamp, renewLease, type Stamp } from '../core/index.js'

/** Who has something until when, as the documents keep it: a stamp, shorter. */
export interface Lease {
  /** The public half of the token. */
  id: string
  /** The owner's label. */
  by: string | null
  /** ISO times, UTC. */
  since: string
  until: string
  ttlMs: number
  /** The boot clock at the last renewal, and where it is one clock: boot, pid namespace, time namespace. */
  bootMs?: number
  place?: string
  processes?: ProcessStamp[]
}

/** What is asked for when somebody wants to have something. */
export interface Claimant {
  owner: string | undefined
  ttlMs: number
  /** The process with whose death it ends. */
  pid: number | undefined
}

/** A lease from now on, and its secret. Throws `EINVAL`. */
export function beginLease(claimant: Claimant): { token: string; lease: Lease } {
  const { token, lease } = newLease(claimant)
  return { token, lease: pack(lease) }
}

/** The same lease with its TTL from now; `pid`: bound to one more process. */
export function extendLease<L extends Lease>(lease: L, pid?: number): L {
  const stamp = pid === undefined ? unpack(lease) : bindLease(unpack(lease), pid)
  return { ...lease, ...pack(renewLease(stamp)) }
}

/** Why a lease is over; undefined while it is not. */
export function overBy(lease: Lease): 'dead' | 'expired' | undefined {
  const { stale, verdict } = judgeLease(unpack(lease))
  return stale ? (verdict === 'dead' ? 'dead' : 'expired') : undefined
}

function pack({ id, owner, processes = [], boot, pidns, timens, acquiredAt, expiresAt, ttlMs, bootMs }: Stamp): Lease {
  return {
    id: id!,
    by: owner ?? null,
    since: acquiredAt!,
    until: expiresAt!,
    ttlMs: ttlMs!,
    ...(bootMs !== undefined && { bootMs }),
    ...(boot !== undefined && { place: [boot, pidns, timens].join('/') }),
    ...(processes.length > 0 && { processes }),
  }
}

function unpack({ id, by, since, until, ttlMs, bootMs, place, processes = [] }: Lease): Stamp {
  const [boot, pidns, timens] = place?.split('/') ?? []
  const ends = Date.parse(until)
  const renewedAt = Number.isNaN(ends) ? undefined : new Date(ends - ttlMs).toISOString()
  return { v: 1, id, owner: by ?? undefined, processes, boot, pidns, timens, acquiredAt: since, renewedAt, expiresAt: until, ttlMs, renews: false, bootMs }
}

/** Whether a value from a document is a lease. */
export function isLease(value: unknown): value is Lease {
  const { id, by, since, until, ttlMs, bootMs, place, processes } = value as Record<string, unknown>
  return (
    typeof id === 'string' &&
    (by === null || typeof by === 'string') &&
    isTime(since) &&
    isTime(until) &&
    typeof ttlMs === 'number' &&
    ttlMs > 0 &&
    (bootMs === undefined || typeof bootMs === 'number') &&
    (place === undefined || typeof place === 'string') &&
    (processes === undefined || (Array.isArray(processes) && processes.every(isProcess)))
  )
}

const isProcess = (value: unknown) => typeof value === 'object' && value !== null && Number.isInteger((value as ProcessStamp).pid) && (value as ProcessStamp).pid > 0

// As toISOString writes it; a registry has thousands, and Date.parse takes its time.
export const isTime = (value: unknown): value is string => typeof value === 'string' && value.length === 24 && value[10] === 'T' && value[23] === 'Z'
