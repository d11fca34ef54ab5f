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

/** The same lease with its TTL from now, bound to these processes too. */
export function extendLease<L extends Lease>(lease: L, ...pids: number[]): L {
  const renewed = renewLease(unpack(lease))
  // By another machine's or container's clock there is no boot clock any more.
  const { bootMs, place, processes, ...rest } = lease
  return { ...rest, ...pack(pids.reduce((stamp, pid) => bindLease(stamp, pid), renewed)) } as L
}

/** Processes, and where they are. */
export type Processes = Pick<Lease, 'place' | 'processes'>

/** A living process of here. Throws `EINVAL`. */
export function processHere(pid: number): Processes {
  return beginLease({ owner: undefined, ttlMs: 1, pid }).lease
}

export function processesOf(stamp: Stamp): Processes {
  return { ...(stamp.boot !== undefined && { place: placeOf(stamp) }), ...(stamp.processes && { processes: stamp.processes }) }
}

const placeOf = ({ boot, pidns, timens }: Stamp) => [boot, pidns, timens].join('/')

/** Whether they have a process in common. A pid alone says nothing: the same ones recur, in other containers and later. */
export function sharesProcess(one: Processes, other: Processes): boolean {
  return one.place === other.place && (one.processes ?? []).some(({ pid, start }) => other.processes?.some((each) => each.pid === pid && each.start === start))
}

/** Why a lease is over; undefined while it is not. */
export function overBy(lease: Lease): 'dead' | 'expired' | undefined {
  const { stale, verdict } = judgeLease(unpack(lease))
  return stale ? (verdict === 'dead' ? 'dead' : 'expired') : undefined
}

function pack(stamp: Stamp): Lease {
  const { id, owner, processes = [], boot, acquiredAt, expiresAt, ttlMs, bootMs } = stamp
  return {
    id: id!,
    by: owner ?? null,
    since: acquiredAt!,
    until: expiresAt!,
    ttlMs: ttlMs!,
    ...(bootMs !== undefined && { bootMs }),
    ...(boot !== undefined && { place: placeOf(stamp) }),
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
    ttlMs < MAX_TTL_MS &&
    (bootMs === undefined || typeof bootMs === 'number') &&
    (place === undefined || typeof place === 'string') &&
    (processes === undefined || (Array.isArray(processes) && processes.every(isProcess)))
  )
}

/** Whether a value from a document names a process. */
export function isProcess(value: unknown): value is ProcessStamp {
  if (typeof value !== 'object' || value === null) return false
  const { pid, start } = value as Record<string, unknown>
  return Number.isInteger(pid) && (pid as number) > 0 && (pid as number) < 2 ** 31 && (start === undefined || typeof start === 'string')
}

// A time minus this is still one.
const MAX_TTL_MS = 1e15

// As toISOString writes it; a registry has thousands, and Date.parse takes its time.
export const isTime = (value: unknown): value is string => typeof value === 'string' && value.length === 24 && value[10] === 'T' && value[23] === 'Z'
