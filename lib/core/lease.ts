import { LockError } from './error.js'
import { context } from './holding.js'
import { isDead, sameBoot } from './liveness.js'
import * as protocol from './protocol.js'
import { isPid, MAX_PROCESSES, type ProcessStamp, type Stamp } from './stamp.js'
import { system } from './system.js'
import { show } from './text.js'

/*
 * Leases that are kept in a document, not in a lock file: a stamp with a final TTL, judged by the same rules.
 */

/** A new lease and its secret. Bound to `pid`, it is over as soon as that process is dead. Throws `EINVAL`. */
export function newLease(fields: { owner: string | undefined; ttlMs: number; pid: number | undefined }): { token: string; lease: Stamp } {
  const { owner, ttlMs, pid } = fields
  const token = system.token()
  const processes = pid === undefined ? [] : [processOf(pid)]
  const lease = protocol.newStamp(system, system.id(token), { owner, reason: undefined, processes, ttlMs, renews: false }, system.clock())
  return { token, lease }
}

/** The lease with its TTL from now. */
export function renewLease(lease: Stamp): Stamp {
  return protocol.renewedStamp(system, lease, system.clock())
}

/** The lease of one more process: over only when all of them are dead. Throws `EINVAL`. */
export function bindLease(lease: Stamp, pid: number): Stamp {
  const { processes = [], pidns } = lease
  const here = system.machine()
  // Of two pids of two places, everybody would take one for somebody else's, or for dead.
  if (processes.length > 0 && !(sameBoot(here, lease) && pidns === here.pidns)) throw new LockError('EINVAL', 'a lease of a process of another machine, container or boot cannot be bound to one of here')
  const others = processes.filter((each) => each.pid !== pid)
  if (others.length >= MAX_PROCESSES) throw new LockError('EINVAL', `a lease can be bound to ${MAX_PROCESSES} processes, not more`)
  const added = processOf(pid)
  // Starting times of two time namespaces do not compare: without one, it is alive while there is such a pid.
  if (processes.length > 0 && lease.timens !== here.timens) delete added.start
  return { ...lease, processes: [...others, added] }
}

/** Whether a lease is over, and why. */
export function judgeLease(lease: Stamp): protocol.Judgement {
  const reading = { kind: 'stamp', path: '', text: '', mtimeMs: Date.parse(lease.renewedAt ?? ''), stamp: lease } as const
  // Where the boot clock is not the same, the wall clocks have to do, and their slack: also for what a co-owner elsewhere has renewed.
  const slackMs = lease.bootMs === undefined && sameBoot(system.machine(), lease) ? protocol.SLACK_MS : 0
  return protocol.judgeLock(context, reading, protocol.newWatch(), system.clock().wall - slackMs)
}

/** The public half of a token. */
export function idOf(token: unknown): string {
  if (typeof token !== 'string' || token === '') throw new LockError('EINVAL', `token must be the text that was given, not ${show(token)}`)
  return system.id(token)
}

/** A living process, for a stamp. Throws `EINVAL`. */
export function processOf(pid: unknown): ProcessStamp {
  if (!isPid(pid) || isDead(system, { pid }, true))
    throw new LockError('EINVAL', `pid must be a living process, not ${show(pid)}`)
  // Under the /proc of an outer pid namespace that number is another process.
  return { pid, start: system.machine().self && system.process(pid).start }
}
